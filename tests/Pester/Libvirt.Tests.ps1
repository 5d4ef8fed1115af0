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

        function Invoke-Sample([string[]] $Operation, [string[]] $Run) {
            $rows = @(& "$samples/Invoke-LibvirtOperation.ps1" $Operation -Run $Run -InformationAction Continue)
            $rows | Select-Object * -ExcludeProperty Told | Format-Table -AutoSize | Out-String -Width 250 | Write-Information -InformationAction Continue
            $rows.Told | Format-Table | Out-String -Width 160 | Write-Information -InformationAction Continue
            $rows
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
            $script:hook = '/etc/libvirt/hooks/qemu'
            $script:calls = '/var/log/libvirt/hook-calls'
            $script:isHookOurs = -not (Test-Path $hook) # a host's own is left alone

            # Restarts libvirtd, which looks for hooks only then. Domains go on.
            function Invoke-LibvirtReload {
                kill -HUP (Get-Content /run/libvirtd.pid)
                Wait-Until 'libvirt answers' { virsh version *>$null; -not $LASTEXITCODE }
            }

            # Runs virsh, and returns what the hook was called with, and whether the guest had a QEMU then, and had run in it.
            function Get-HookCall([string[]] $Arguments) {
                Set-Content $calls ''
                $null = Invoke-Virsh $Arguments
                @((Get-Content $calls) -match '\S')
            }

            if ($isHookOurs) {
                Set-Content $hook @'
#!/bin/bash
read -r qemu 2>/dev/null </run/libvirt/qemu/"$1".pid
exits=0
[[ ! -r /sys/kernel/debug/kvm ]] || read -r exits 2>/dev/null < <(cat /sys/kernel/debug/kvm/"${qemu:-none}"-*/exits)
[[ -d /proc/${qemu:-none} ]] && there=$( ((exits)) && echo ran || echo 'yet to run') || there='no QEMU'
[[ $1 != hook01 ]] || echo "$2 $3, $there" >>/var/log/libvirt/hook-calls
'@
                chmod 755 $hook
                Invoke-LibvirtReload
            }
            $script:guest = Open-Domain hook01
        }

        AfterAll {
            Close-Domain $guest
            Clear-Libvirt
            if ($isHookOurs) {
                Remove-Item $hook, $calls
                Invoke-LibvirtReload
            }
        }

        It 'has its name' {
            $vm = Get-KvmVM hook01
            $vm.Name | Should-Be 'hook01'
            $vm.ProcessId | Should-Be $guest.Process.Id
            $vm.VcpuCount | Should-Be 2
            (TabExpansion2 'Get-KvmClock hook').CompletionMatches.CompletionText | Should-ContainCollection hook01
        }

        It 'is confined, by AppArmor and by seccomp, and its clocks are read and set all the same' {
            if (-not (Select-String 'apparmor=1' /proc/cmdline -Quiet)) {
                Set-ItResult -Skipped -Because 'AppArmor is off: lab/kvmlab exec --append apparmor=1 --append security=apparmor'
            }
            Get-Content "/proc/$($guest.Process.Id)/attr/current" | Should-BeLikeString 'libvirt-*(enforce)'
            (Select-String '^Seccomp:\s+(\d)' "/proc/$($guest.Process.Id)/status").Matches[0].Groups[1].Value | Should-Be '2'
            $state = Save-KvmTscState hook01
            $null = Restore-KvmTscState hook01 $state
            Get-Content "/proc/$($guest.Process.Id)/attr/current" | Should-BeLikeString 'libvirt-*(enforce)'
        }
    }

    Context 'with the watch, virsh alone' {
        BeforeAll {
            $script:rows = Invoke-Sample Suspend -Run Without
            $script:rows += Invoke-Sample Suspend, Save, Snapshot -Run Watched
        }

        It 'loses time without KvmTsc' {
            $row = $rows.Where({ $_.Run -eq 'Without' })[0]
            $row.LostMilliseconds | Should-BeGreaterThan 5000
            $row.WrongSamples | Should-Be $row.Samples
        }

        It 'loses nothing, from its first sample on: <Operation>' -ForEach @{ Operation = 'Suspend' }, @{ Operation = 'Save' }, @{ Operation = 'Snapshot' } {
            Assert-LostNothing $rows.Where({ $_.Run -eq 'Watched' -and $_.Operation -eq $Operation })[0]
        }
    }
}
