BeforeDiscovery {
    $script:qemu = Get-Command qemu-system-x86_64, qemu-kvm, /usr/libexec/qemu-kvm -CommandType Application -ErrorAction Ignore | Select-Object -First 1 -ExpandProperty Source
}

Describe 'A guest that moves from one QEMU to another, and stands still for a second meanwhile' -ForEach @{ Qemu = $qemu } {
    if (-not $qemu) {
        It 'loses no time' {
            Set-ItResult -Skipped -Because 'QEMU is missing; on Debian it is qemu-system-x86, on Fedora and RHEL qemu-kvm'
        }
        return
    }

    BeforeAll {
        . "$PSScriptRoot/Common.ps1"

        # A program in place of firmware, which writes its TSC to port E9 for ever, eight bytes each time.
        function Export-Firmware([string] $Path) {
            $shiftAndOut = '66C1E808E6E9' # shr eax,8; out E9h,al
            $fourBytes = "E6E9$shiftAndOut$shiftAndOut$shiftAndOut"
            # rdtsc; EAX out; mov eax,edx; EAX out; mov ecx,1000000; loop to itself; jmp to rdtsc
            $loop = "0F31${fourBytes}6689D0${fourBytes}66B940420F0067E2FD"
            $program = [Convert]::FromHexString("${loop}EB" + ('{0:X2}' -f (256 - $loop.Length / 2 - 2)))
            $image = [byte[]]::new(0x10000)
            $program.CopyTo($image, 0xE000)
            [Convert]::FromHexString('EA00E000F0').CopyTo($image, 0xFFF0) # at reset: jmp F000:E000
            [IO.File]::WriteAllBytes($Path, $image)
        }

        function Open-Qemu([string] $Name, [string[]] $Options = @()) {
            $start = [Diagnostics.ProcessStartInfo]::new('sh', [string[]] (@('-c', 'exec "$0" "$@" >/dev/null', $Qemu,
                        '-nodefaults', '-no-user-config', '-display', 'none', '-monitor', 'stdio', '-name', "$Name,debug-threads=on", '-accel', 'kvm', '-cpu', 'host', '-m', '16'
                        '-bios', "$TestDrive/firmware", '-chardev', "file,id=log,path=$TestDrive/$Name", '-device', 'isa-debugcon,iobase=0xe9,chardev=log') + $Options))
            $start.RedirectStandardInput = $true
            [Diagnostics.Process]::Start($start)
        }

        function Get-Log([string] $Name) {
            $file = [IO.File]::Open("$TestDrive/$Name", 'Open', 'Read', 'ReadWrite')
            $bytes = [byte[]]::new($file.Length)
            $file.ReadExactly($bytes)
            $file.Dispose()
            , $bytes
        }

        # What the guest read in all, first under one, then under the other.
        function Get-Reading {
            $bytes = [byte[]] ((Get-Log $source) + (Get-Log $destination))
            for ($index = 0; $index + 8 -le $bytes.Count; $index += 8) {
                [BitConverter]::ToUInt64($bytes, $index)
            }
        }

        function Wait-Reading {
            $before = (Get-Log $destination).Count
            Wait-Until 'the guest reads on' { (Get-Log $destination).Count -ge $before + 16 }
        }

        $script:restore = $script:first = $script:second = $null
        $script:lack = Get-Lack
        if ($lack) {
            return
        }
        $script:source = "acceptance-source-$PID"
        $script:destination = "acceptance-destination-$PID"
        Export-Firmware "$TestDrive/firmware"
        $script:first = Open-Qemu $source
        $script:second = Open-Qemu $destination '-incoming', "unix:$TestDrive/socket"
        Wait-Until 'the guest reads its TSC' { (Test-Path "$TestDrive/$source") -and (Get-Log $source).Count -gt 80 }
        $vm = Get-KvmVM $source
        $script:lack = $vm.CanAttach ? '' : $vm.Reason
    }

    BeforeEach {
        Skip-For $lack
    }

    AfterAll {
        @($restore).Where({ $_ }) | Remove-Job -Force
        @($first, $second).Where({ $_ }).ForEach('Kill')
    }

    It 'loses no time' {
        $offset = (Get-KvmVcpuTscOffset $source).OffsetTicks
        $before = Get-KvmClock $source
        $script:restore = Save-KvmTscState $source | ForEach-Object {
            Start-ThreadJob -ArgumentList "$PSScriptRoot/../KvmTsc.psd1", $_, $destination {
                Import-Module $args[0]
                Restore-KvmTscState $args[2] $args[1] -AtResume -TimeoutSeconds 120 -WarningAction Ignore # of a guest that asks KVM for no clock
            }
        }
        Wait-Until 'it waits for the resume' { Select-String '^TracerPid:\s+[1-9]' (Get-ChildItem "/proc/$($second.Id)/task/*/status") -Quiet } $restore
        $first.StandardInput.WriteLine('stop')
        Start-Sleep -Seconds 1
        $first.StandardInput.WriteLine("migrate unix:$TestDrive/socket")
        Wait-Until 'it is restored' {
            $second.StandardInput.WriteLine('cont') # which does nothing until the guest is there, and once it runs
            $restore.State -eq 'Completed'
        } $restore
        $result = $restore | Receive-Job
        $result.ResidualTicks | Should -Be 0
        (Get-KvmVcpuTscOffset $destination).OffsetTicks | Should -Be $offset
        $after = Get-KvmClock $destination
        $lost = ([long] $after.RealtimeNanoseconds - [long] $before.RealtimeNanoseconds) - ([long] $after.ClockNanoseconds - [long] $before.ClockNanoseconds)
        [Math]::Abs($lost) | Should -BeLessThan 10000000 -Because 'CLOCK_REALTIME, by which it is measured, may be slewed by 500 ppm'
    }

    It 'reads a TSC that never went back, and that has counted meanwhile' {
        $earliest = (Get-KvmClock $destination).HostTsc
        Wait-Reading
        $read = @(Get-Reading)
        $latest = (Get-KvmClock $destination).HostTsc
        $wentBack = 0
        for ($index = 1; $index -lt $read.Count; $index++) {
            $wentBack += $read[$index] -le $read[$index - 1]
        }
        $wentBack | Should -Be 0
        $offset = (Get-KvmVcpuTscOffset $destination).OffsetTicks
        [long] $read[-1] - $offset | Should -BeGreaterThan $earliest
        [long] $read[-1] - $offset | Should -BeLessThan $latest
    }
}
