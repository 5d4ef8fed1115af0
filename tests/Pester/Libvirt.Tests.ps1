# Domains of libvirt, operated by virsh alone, confined as Debian has them. Their guests' own clocks are the judge, as samples/Invoke-LibvirtOperation.ps1 reads them.
BeforeDiscovery {
    $script:isThere = @(Get-Command libvirtd, virsh, qemu-img -CommandType Application -ErrorAction Ignore).Count -ge 3
}

Describe 'A domain of libvirt' -Tag Kvm {
    if (-not $isThere) {
        It 'keeps its time' {
            Set-ItResult -Skipped -Because 'libvirt is missing. Install it: sudo apt-get install libvirt-daemon-system libvirt-clients qemu-utils apparmor'
        }
        return
    }

    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:samples = (Resolve-Path "$PSScriptRoot/../../samples").ProviderPath

        function Invoke-Sample([string[]] $Operation, [string[]] $Run, [string] $ClockSource = 'kvm-clock') {
            $rows = @(& "$samples/Invoke-LibvirtOperation.ps1" $Operation -Run $Run -ClockSource $ClockSource -InformationAction Continue)
            $rows | Select-Object * -ExcludeProperty Told | Format-Table -AutoSize | Out-String -Width 250 | Write-Information -InformationAction Continue
            $rows | ForEach-Object Told | Format-Table | Out-String -Width 160 | Write-Information -InformationAction Continue
            $rows
        }

        function Assert-LostTime($Row) {
            $Row.LostMilliseconds | Should-BeGreaterThan 5000
            $Row.WrongSamples | Should-BeGreaterThan ($Row.Samples / 2) # the first may be from before
        }

        function Assert-LostNothing($Row) {
            $Row.FirstSamples | Should-Be 2
            $Row.WrongSamples | Should-Be 0 -Because "of $($Row.Samples), the first is off by $($Row.FirstOffBy) ms"
            [Math]::Abs($Row.LostMilliseconds) | Should-BeLessThan 0.1
            $Row.Backwards | Should-Be 0
            $Row.Parted | Should-Be 0
            $Row.Warnings | Should-BeCollection @()
            $Row.SameOffsets | Should-BeTrue
        }
    }

    Context 'as it is' {
        BeforeAll {
            Import-Module "$samples/QemuMigration/Libvirt.psm1", "$samples/QemuMigration/Qemu.psm1"
            $script:image = & "$samples/../lab/guest/build"
            Initialize-Libvirt $image
            $script:calls = '/var/log/libvirt/hook-calls'
            # Runs virsh, and returns what the hook was called with, and whether the guest had a QEMU then, and had run in it.
            function Get-HookCall([string[]] $Arguments) {
                Set-Content $calls $null
                $null = Invoke-Virsh $Arguments
                Get-Content $calls
            }

            Set-Content "$TestDrive/hook" @'
#!/bin/bash
there='no QEMU'
if qemu=$(cat "/run/libvirt/qemu/$1.pid" 2>/dev/null) && [[ -d /proc/$qemu ]]; then
    exits=$(cat /sys/kernel/debug/kvm/"$qemu"-*/exits)
    there='yet to run'
    ((exits == 0)) || there='has run'
fi
[[ $1 != hook01 ]] || echo "$2 $3, $there" >>/var/log/libvirt/hook-calls
'@
            Add-LibvirtHook "$TestDrive/hook"
            $script:guest = Open-Domain hook01
        }

        AfterAll {
            Close-Domain $guest
            Clear-LibvirtHook
            Clear-Libvirt
            Remove-Item $calls
        }

        It 'has its name' {
            $vm = Get-KvmVM hook01
            $vm.Name | Should-Be 'hook01'
            $vm.ProcessId | Should-Be $guest.Process.Id
            $vm.VcpuCount | Should-Be 2
            (TabExpansion2 'Get-KvmClock hook').CompletionMatches.CompletionText | Should-ContainCollection hook01
        }

        It 'is confined, by AppArmor and by seccomp, and its clocks are read and set all the same' {
            if ((Get-Content /sys/module/apparmor/parameters/enabled -ErrorAction Ignore) -ne 'Y') {
                Set-ItResult -Skipped -Because 'AppArmor is off: lab/kvmlab exec --append apparmor=1 --append security=apparmor'
            }
            Get-Content "/proc/$($guest.Process.Id)/attr/current" | Should-BeLikeString 'libvirt-*(enforce)'
            (Select-String '^Seccomp:\s+(\d)' "/proc/$($guest.Process.Id)/status").Matches[0].Groups[1].Value | Should-Be '2'
            $state = Save-KvmTscState hook01
            $null = Restore-KvmTscState hook01 $state
            Get-Content "/proc/$($guest.Process.Id)/attr/current" | Should-BeLikeString 'libvirt-*(enforce)'
        }

        It 'has libvirt call its hook as docs/libvirt.md says' -Tag Long {
            $away = 'stopped end, no QEMU', 'release end, no QEMU'
            $back = 'prepare begin, no QEMU', 'start begin, no QEMU', 'started begin, yet to run'
            $saved = '/var/lib/libvirt/qemu/save/hook01.saved'
            Get-Content $calls | Should-BeCollection @($back[0, 1] + 'started begin, has run')
            Get-HookCall suspend, hook01 | Should-BeCollection @()
            Get-HookCall resume, hook01 | Should-BeCollection @()
            Get-HookCall snapshot-create-as, hook01, one | Should-BeCollection @()
            Get-HookCall snapshot-revert, hook01, one | Should-BeCollection ($away + $back)
            Get-HookCall save, hook01, $saved | Should-BeCollection $away
            Get-HookCall restore, $saved | Should-BeCollection (@('restore begin, no QEMU') + $back)
        }
    }

    Context 'with the watch, virsh alone' {
        BeforeAll {
            $script:rows = @(Invoke-Sample Suspend, Save -Run Watched) + @(Invoke-Sample Suspend -Run Without)
        }

        It 'loses nothing, from its first sample on: <Operation>' -ForEach @{ Operation = 'Suspend' }, @{ Operation = 'Save' } {
            Assert-LostNothing $rows.Where({ $_.Run -eq 'Watched' -and $_.Operation -eq $Operation })[0]
        }

        It 'loses time without the watch' {
            Assert-LostTime $rows.Where({ $_.Run -eq 'Without' })[0]
        }
    }

    # ./build.sh Soak runs these too.
    It 'loses time without KvmTsc, and none with it, by hand or by the watch or by the hook: <Operation>, on <ClockSource>' -Tag Long -ForEach @(
        @{ Operation = 'Suspend'; ClockSource = 'kvm-clock'; Run = 'Without', 'With', 'Watched' }
        @{ Operation = 'Save'; ClockSource = 'kvm-clock'; Run = 'Without', 'With', 'Watched', 'Hook' }
        @{ Operation = 'ManagedSave'; ClockSource = 'kvm-clock'; Run = 'Without', 'With', 'Watched', 'Hook' }
        @{ Operation = 'Snapshot'; ClockSource = 'kvm-clock'; Run = 'Without', 'With', 'Watched' }
        @{ Operation = 'Save'; ClockSource = 'tsc'; Run = 'Without', 'With', 'Watched', 'Hook' }
    ) {
        $rows = Invoke-Sample $Operation -Run $Run -ClockSource $ClockSource
        $rows.Run | Should-BeCollection $Run
        Assert-LostTime $rows[0]
        $rows | Select-Object -Skip 1 | ForEach-Object { Assert-LostNothing $_ }
    }
}
