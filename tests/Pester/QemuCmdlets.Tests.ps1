# A QEMU whose firmware found nothing to boot, so that its vCPUs idle. What the cmdlets say and do, debugfs and QEMU confirm.
Describe 'The cmdlets on a VM of QEMU' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Import-Module "$PSScriptRoot/../../samples/QemuMigration/Qemu.psm1"
        $script:firmware = "$TestDrive/firmware"
        $script:qemu = Open-Qemu -Name qemu01 -Directory $TestDrive -Options @(
            '-cpu', 'host', '-smp', '2', '-m', '32M'
            '-chardev', "file,id=firmware,path=$firmware", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware'
        )
        Wait-Until 'the firmware gives up' { Select-String 'No bootable device' $firmware -Quiet }
        $script:directory = (Get-Item "/sys/kernel/debug/kvm/$($qemu.Process.Id)-*").FullName

        function Get-Witness {
            Get-ChildItem $directory -Filter 'vcpu*' -Name | Sort-Object { [int] $_.Substring(4) } |
                ForEach-Object { [long] (Get-Content -Raw "$directory/$_/tsc-offset") }
        }

        function Get-Status {
            (Invoke-Qmp $qemu query-status).status
        }

        # How often the guest's vCPUs came back from the guest.
        function Get-ExitCount {
            [long] (Get-Content -Raw "$directory/exits")
        }

        # Its vCPUs go on, nobody traces it, and its VMM answers.
        function Assert-Running {
            Get-Status | Should-Be 'running'
            Get-ChildItem "/proc/$($qemu.Process.Id)/task" -Name |
                ForEach-Object { Select-String '^TracerPid:\s+(\d+)$' "/proc/$($qemu.Process.Id)/task/$_/status" } |
                ForEach-Object { $_.Matches[0].Groups[1].Value } | Should-All { $_ -eq 0 }
            $before = Get-ExitCount
            Wait-Until 'the guest runs' { (Get-ExitCount) -gt $before }
        }
    }

    AfterAll {
        Close-Guest $qemu
    }

    AfterEach {
        Assert-Running
    }

    It 'find it, with its name and its vCPUs' {
        $vm = Get-KvmVM qemu01
        "$($vm.ProcessId), $($vm.VcpuCount), $($vm.CanAttach)" | Should-Be "$($qemu.Process.Id), 2, True"
        (Get-KvmVcpu qemu01).VcpuId | Should-BeCollection 0, 1
    }

    It 'read the offset of every vCPU without a stop' {
        $offsets = Get-KvmVM qemu01 | Get-KvmVcpuTscOffset
        $offsets.VcpuId | Should-BeCollection 0, 1
        $offsets.OffsetTicks | Should-BeCollection (Get-Witness)
        $offsets | Should-All { $_.StoppedMicroseconds -eq 0 -and $_.Source -eq 'Debugfs' }
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $offsets.OffsetTicks
    }

    It 'read the same in a stop, and say that they did' {
        $offsets = Get-KvmVcpuTscOffset qemu01 -Stop
        $offsets.OffsetTicks | Should-BeCollection (Get-Witness)
        $offsets | Should-All { $_.StoppedMicroseconds -gt 0 -and $_.Source -eq 'Ioctl' }
    }

    It 'set the offset of every vCPU' {
        $new = (Get-Witness)[0] + 1000000007
        Set-KvmVcpuTscOffset qemu01 $new
        Get-Witness | Should-BeCollection $new, $new
    }

    It 'read clock and frequency, save, and restore, in a stop each' {
        $clock = Get-KvmClock qemu01
        $clock.StoppedMicroseconds | Should-BeGreaterThan 0
        $clock.HostTsc | Should-BeGreaterThan 0
        $frequencies = Get-KvmTscFrequency qemu01
        $frequencies | Should-All { $_.StoppedMicroseconds -gt 0 -and $_.TscKHz -gt 0 }
        $state = Save-KvmTscState qemu01
        $state.StoppedMicroseconds | Should-BeGreaterThan 0
        $state.Vcpus.OffsetTicks | Should-BeCollection (Get-Witness)
        $state.Vcpus.TscKHz | Should-BeCollection $frequencies.TscKHz
        $state.ClockNanoseconds | Should-BeGreaterThan $clock.ClockNanoseconds
        $result = Restore-KvmTscState qemu01 $state -WarningVariable warnings
        $result.GuestClocks | Should-Be 'Kvmclock' # by which the firmware finds out the frequency of its TSC
        $warnings | Should-BeNull
        $result.StoppedMicroseconds | Should-BeGreaterThan 0
        $result.ResidualTicks | Should-Be 0
        [math]::Abs($result.ClockResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        Get-Witness | Should-BeCollection $state.Vcpus.OffsetTicks
    }

    It 'warn of a guest that takes no clock from KVM' {
        $hidden = Open-Qemu -Name hidden -Directory $TestDrive -Options @(
            '-cpu', 'host,kvm=off', '-m', '32M', '-chardev', "file,id=firmware,path=$TestDrive/hidden", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware'
        )
        try {
            Wait-Until 'its firmware gives up' { Select-String 'No bootable device' "$TestDrive/hidden" -Quiet }
            $result = Restore-KvmTscState hidden (Save-KvmTscState hidden) -WarningVariable warnings -WarningAction SilentlyContinue
            "$($result.GuestClocks): $warnings" | Should-BeLikeString 'None: The guest of hidden uses neither kvmclock nor*tsc=reliable.'
            (Test-KvmTscMigration hidden).Findings.Check -contains 'GuestWithoutKvmclock' | Should-BeTrue
        }
        finally {
            Close-Guest $hidden
        }
    }

    It 'change nothing with -WhatIf' {
        $before = Get-Witness
        $state = Save-KvmTscState qemu01
        $state.Vcpus | Should-All { $_.OffsetTicks -eq $before[0] }
        Set-KvmVcpuTscOffset qemu01 ($before[0] + 5000) -WhatIf
        Set-KvmClock qemu01 ($state.ClockNanoseconds + 86400000000000) -WhatIf
        Restore-KvmTscState qemu01 $state -WhatIf | Should-BeNull
        Get-Witness | Should-BeCollection $before
        (Get-KvmClock qemu01).ClockNanoseconds | Should-BeLessThan ($state.ClockNanoseconds + 86400000000000)
    }

    Context 'that shares its name, or has brackets in it' {
        BeforeAll {
            $options = '-nodefaults -display none -accel kvm -m 16 -machine microvm -S'
            $script:others = 'twin', 'TWIN', 'web[1]', 'web1' | ForEach-Object {
                Start-Process qemu-system-x86_64 "-name $_ $options" -PassThru
            }
            Wait-Until 'they have vCPUs' { @($others | ForEach-Object { Get-KvmVM -ProcessId $_.Id -ErrorAction Ignore } | Where-Object VcpuCount -EQ 1).Count -eq 4 }
        }

        AfterAll {
            $others | Stop-Process
        }

        It 'tell them apart by their processes' {
            (Get-KvmVM twin).VMName | Should-BeCollection "twin:$($others[0].Id)", "TWIN:$($others[1].Id)"
            (Get-KvmVM twin*).ProcessId | Should-BeCollection $others[0].Id, $others[1].Id
            (Get-KvmVcpu "twin:$($others[0].Id)").ProcessId | Should-Be $others[0].Id
            (Get-KvmVcpu "twin:$($others[1].Id)").ProcessId | Should-Be $others[1].Id
        }

        It 'keep their names in the pipeline' {
            (Get-KvmVM twin | Get-KvmVcpuTscOffset).VMName | Should-BeCollection "twin:$($others[0].Id)", "TWIN:$($others[1].Id)"
        }

        It 'change none by a name that two have' {
            $observed = Invoke-Observed { Set-KvmVcpuTscOffset twin 77 -Force }
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound twin "twin names 2 VMs: .*$($others[0].Id).*$($others[1].Id)" "twin:$($others[0].Id)"
            (Get-KvmVcpuTscOffset twin).OffsetTicks | Should-All { $_ -ne 77 }
            Set-KvmVcpuTscOffset "twin:$($others[1].Id)" 77 -Force
            @((Get-KvmVcpuTscOffset twin).OffsetTicks -eq 77) | Should-BeCollection -Count 1
        }

        It 'do not take a name for a pattern' {
            (Get-KvmVM 'web[1]').ProcessId | Should-Be $others[2].Id
            (Get-KvmVM 'web[12]').ProcessId | Should-Be $others[3].Id
        }
    }

    Context 'that is paused, and not resumed' {
        BeforeEach {
            $script:state = Save-KvmTscState qemu01
            $script:before = Get-Witness
            $null = Invoke-Qmp $qemu stop
        }

        AfterEach {
            Get-Status | Should-Be 'paused'
            Get-Witness | Should-BeCollection $before
            $null = Invoke-Qmp $qemu cont
        }

        It 'give up waiting when the time is over' {
            $observed = Invoke-Observed { Restore-KvmTscState qemu01 $state -AtResume -TimeoutSeconds 2 }
            $observed.Output | Should-BeCollection @()
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] ResumeTimeout OperationTimeout qemu01 'qemu01 .*2 s'
        }

        It 'give up waiting by Ctrl+C, which stops a pipeline as PowerShell.Stop does' {
            $shell = [powershell]::Create((Get-SessionBeside)).AddScript('Restore-KvmTscState qemu01 $args[0] -AtResume').AddArgument($state)
            try {
                $null = $shell.BeginInvoke()
                Wait-Until 'it is watched' { Test-IsWatched $qemu }
                $stopping = $shell.BeginStop($null, $null)
                $stopping.AsyncWaitHandle.WaitOne(120000) | Should-BeTrue
                "$($shell.InvocationStateInfo.State)" | Should-Be 'Stopped'
            }
            finally {
                $shell.Dispose()
            }
        }
    }
}
