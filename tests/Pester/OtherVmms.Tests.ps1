# VMMs that are not QEMU, by one that does as they do (tests/Vmm). Its guest is the judge: it reads CLOCK_REALTIME of the host, its TSC and kvmclock of one instant, fifty times a
# second, and logs two readings in a row where it stood still between them, or its clocks parted. docs/vmms.md has what the VMMs' sources say about all this.

BeforeDiscovery {
    # What a guest loses of kvmclock: None, Near (what KVM_SET_CLOCK with a CLOCK_REALTIME misses), Pause (all the time it was away), or More (it is even taken back).
    $firecracker = @{ Vmm = 'Firecracker'; Program = 'firecracker'; Boot = '--config-file none'; Names = 'fc_vcpu {0}'; Paused = 'None'; Tells = $true }
    $cloud = @{ Vmm = 'cloud-hypervisor'; Program = 'cloud-hypervisor'; Boot = '--kernel none'; Names = 'vcpu{0}'; Paused = 'Near'; Tells = $true }
    $crosvm = @{ Vmm = 'crosvm'; Program = 'crosvm'; Boot = ''; Names = 'crosvm_vcpu{0}'; Paused = 'Pause'; Tells = $true }
    $vmms = @(
        @{ Name = 'fc01'; Variant = ''; Restored = 'Pause' } + $firecracker
        @{ Name = 'fr01'; Variant = ' (clock_realtime)'; Restored = 'Near' } + $firecracker
        @{ Name = 'ch01'; Variant = ''; Restored = 'Near' } + $cloud
        @{ Name = 'co01'; Variant = ' 52'; Restored = 'Pause' } + $cloud
        @{ Name = 'cr01'; Variant = ' (--suspended)'; Restored = 'More' } + $crosvm # which was paused before
        @{ Name = 'cd01'; Variant = ''; Restored = 'More'; RunsAtOnce = $true } + $crosvm
        @{ Name = 'kt01'; Variant = ''; Vmm = 'kvmtool'; Program = 'lkvm'; Boot = ''; Names = 'kvm-vcpu-{0}'; Paused = 'None'; Tells = $false; Restored = $null }
    )
    $older = $vmms.Where({ $_.Name -eq 'co01' })[0]
    $older.Boot = '--older --kernel none'
    $older.Paused = 'Pause'
    $vmms.ForEach({ $_.RunsAtOnce = $_['RunsAtOnce'] })
    $script:snapshots = $vmms.Where({ $_.Restored })
}

Describe 'VMMs that are not QEMU' -Tag Kvm -ForEach @{ Vmms = $vmms } {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        . "$PSScriptRoot/Watching.ps1"
        . "$PSScriptRoot/OtherVmms.ps1"

        if ($programs) { $Vmms | ForEach-Object { Open-Vmm $_ $_.Boot } }
    }

    BeforeEach {
        Assert-Built
    }

    AfterAll {
        @($processes.Keys) | ForEach-Object { Close-Vmm $_ }
    }

    Context 'as they are found' {
        It 'names <Name> and its threads, and reads its clocks' -ForEach $vmms {
            $vm = Get-KvmVM $Name
            "$($vm.Vmm), $($vm.ProcessId), $($vm.VcpuCount), $($vm.CanAttach)" | Should-Be "$Vmm, $($processes[$Name].Id), 2, True"
            $vcpus = Get-KvmVcpu $Name
            $vcpus.VcpuId | Should-BeCollection @(0, 1)
            $vcpus | ForEach-Object { (Get-Content "/proc/$($vm.ProcessId)/task/$($_.ThreadId)/comm") } | Should-BeCollection @(0, 1 | ForEach-Object { $Names -f $_ })
            $seen = Get-KvmVcpuTscOffset $Name -NoStop
            $read = Get-KvmVcpuTscOffset $Name -Stop
            $read.OffsetTicks | Should-BeCollection $seen.OffsetTicks
            $read | Should-All { $_.Source -eq 'Ioctl' -and $_.StoppedMicroseconds -gt 0 }
            (Get-KvmClock $Name).HostTsc | Should-BeGreaterThan 0
            $restored = Restore-KvmTscState $Name (Save-KvmTscState $Name)
            "$($restored.GuestClocks), $($restored.ResidualTicks)" | Should-Be 'Kvmclock, 0'
            Wait-Sample $Name
        }
    }

    Context 'paused and resumed, with nobody watching' {
        BeforeAll {
            $script:losses = @{}
            if ($programs) {
                $Vmms | ForEach-Object { $null = Invoke-Vmm $_.Name clear; Suspend-Vmm $_ }
                Start-Sleep -Seconds 1
                $Vmms | ForEach-Object { Resume-Vmm $_ }
                $Vmms | ForEach-Object { Wait-Sample $_.Name; $losses[$_.Name] = Get-Loss $_.Name }
            }
        }

        It 'costs a guest of <Vmm><Variant>: <Paused>, of its TSC: None' -ForEach $vmms {
            Assert-Loss $losses[$Name] $Paused Clock
            Assert-Loss $losses[$Name] None Tsc
            if ($Name -ne 'co01') { $losses[$Name].Backwards | Should-BeCollection @(0, 0) } # which reads the clock before its guest stands still
        }

        It 'is told to a guest of <Vmm><Variant>: <Tells>' -ForEach $vmms {
            $losses[$Name].Stopped | Should-BeCollection @([int] $Tells, [int] $Tells)
            (Get-Log $Name).Errno | Should-Be ($Tells ? 0 : 25) # ENOTTY: it asks the VM, which has no such ioctl
        }

        It 'writes the clock of the first pause after the second one, too: crosvm' {
            $crosvm = $Vmms.Where({ $_.Name -eq 'cr01' })[0]
            $null = Invoke-Vmm cr01 clear
            Suspend-Vmm $crosvm
            Resume-Vmm $crosvm
            Wait-Sample cr01
            (Get-Log cr01).Vcpus.Backwards | Should-BeCollection @(1, 1)
        }
    }

    Context 'paused and resumed, watched' {
        BeforeAll {
            if ($programs) {
                $script:losses = @{}
                $watch = Open-Watch @{ Correct = $true; Confirm = $false }
                $watch.Seen = 0
                Wait-ToldOfAll $watch Found $Vmms.Name
                $Vmms | ForEach-Object { $null = Invoke-Vmm $_.Name clear; Suspend-Vmm $_ }
                Wait-ToldOfAll $watch Paused $Vmms.Name
                $Vmms | ForEach-Object { Wait-Held $_.Name }
                $Vmms | ForEach-Object { Resume-Vmm $_ }
                Wait-ToldOfAll $watch Resumed $Vmms.Name
                Wait-ToldOfAll $watch Corrected $Vmms.Where({ $_.Paused -eq 'Pause' }).Name
                $Vmms | ForEach-Object { Wait-Sample $_.Name }
                Close-Watch $watch
                $Vmms | ForEach-Object { $losses[$_.Name] = Get-Loss $_.Name }
                $script:events = @($watch.Events)
            }
        }

        AfterAll {
            Close-OpenWatch
        }

        It 'costs a guest of <Vmm><Variant> nothing' -ForEach $vmms {
            $exact = $Paused -eq 'Near' ? 'Near' : 'None'
            Assert-Loss $losses[$Name] $exact Clock
            Assert-Loss $losses[$Name] $exact ClockAll
            Assert-Loss $losses[$Name] None Tsc
            $losses[$Name].Backwards | Should-BeCollection @(0, 0)
            $corrected = @($events | Where-Object { $_.VMName -eq $Name -and $_.Event -eq 'Corrected' })
            $corrected | Should-BeCollection -Count ([int] ($Paused -eq 'Pause'))
            @($corrected | Where-Object { -not $_.BeforeGuestRan }) | Should-BeCollection @()
            @($events | Where-Object { $_.VMName -eq $Name -and $_.Reason }) | Should-BeCollection @()
        }
    }

    # Everyone is paused, written to a snapshot, and ended; then the snapshot is restored by a new process, three times.
    Context 'restored from a snapshot by a new process' {
        BeforeAll {
            if ($programs) {
                $script:losses = @{ Watched = @{}; Alone = @{}; ByHand = @{} }
                $script:offsets, $script:states, $script:results = @{}, @{}, @{}
                $script:saved = $Vmms.Where({ $_.Restored })
                $all = $saved.Name

                # What crosvm keeps of its first pause goes into each snapshot.
                $paused = $Vmms.Where({ $_.Name -eq 'cr01' })[0]
                Wait-Grown cr01
                Suspend-Vmm $paused
                Resume-Vmm $paused

                # Under a watch.
                $watch = Open-Watch @{ Correct = $true; Confirm = $false }
                $watch.Seen = 0
                Wait-ToldOfAll $watch Found $all
                $all | ForEach-Object { Wait-Grown $_; $states[$_] = Save-KvmTscState $_ }
                $saved | ForEach-Object { $null = Invoke-Vmm $_.Name clear; Suspend-Vmm $_; $null = Save-Vmm $_; Close-Vmm $_.Name }
                Wait-ToldOfAll $watch Ended $all
                $watch.Seen = $watch.Events.Count
                foreach ($vmm in $saved) {
                    Restore-Vmm $vmm
                    if (-not $vmm.RunsAtOnce) {
                        Wait-Held $vmm.Name
                        Resume-Vmm $vmm
                    }
                }
                Wait-ToldOfAll $watch Corrected $saved.Where({ -not $_.RunsAtOnce }).Name
                foreach ($name in $all) {
                    Wait-Sample $name
                    $offsets[$name] = (Get-KvmVcpuTscOffset $name -NoStop).OffsetTicks
                }
                Close-Watch $watch
                $script:events = @($watch.Events)
                $all | ForEach-Object { $losses.Watched[$_] = Get-Loss $_; Close-Vmm $_ }

                # With nobody doing anything.
                $saved | ForEach-Object { Restore-Vmm $_; if (-not $_.RunsAtOnce) { Resume-Vmm $_ } }
                $all | ForEach-Object { Wait-Sample $_; $losses.Alone[$_] = Get-Loss $_; Close-Vmm $_ }

                # By the state that was captured, as the VMM resumes it; one that cannot be waited for is corrected while it runs.
                foreach ($vmm in $saved) {
                    Restore-Vmm $vmm
                    if ($vmm.RunsAtOnce) {
                        Wait-Sample $vmm.Name
                        $results[$vmm.Name] = Restore-KvmTscState $vmm.Name $states[$vmm.Name]
                    }
                    else {
                        $waiting = [powershell]::Create((Get-SessionBeside)).AddScript('param($Name, $State) Restore-KvmTscState $Name $State -AtResume')
                        $null = $waiting.AddParameters(@{ Name = $vmm.Name; State = $states[$vmm.Name] })
                        $started = $waiting.BeginInvoke()
                        Wait-Held $vmm.Name
                        Resume-Vmm $vmm
                        $results[$vmm.Name] = $waiting.EndInvoke($started)[0]
                        $waiting.Streams.Error | Should-BeCollection @()
                        $waiting.Dispose()
                    }
                    Wait-Sample $vmm.Name
                    $losses.ByHand[$vmm.Name] = Get-Loss $vmm.Name
                }
            }
        }

        AfterAll {
            Close-OpenWatch
        }

        It 'costs a guest of <Vmm><Variant> of kvmclock: <Restored>, of its TSC: Pause' -ForEach $snapshots {
            Assert-Loss $losses.Alone[$Name] $Restored Clock
            Assert-Loss $losses.Alone[$Name] Pause Tsc
        }

        It 'costs a guest of <Vmm><Variant> nothing with Restore-KvmTscState' -ForEach $snapshots {
            Assert-Loss $losses.ByHand[$Name] None ($RunsAtOnce ? 'ClockAll' : 'Clock')
            if (-not $RunsAtOnce) { Assert-Loss $losses.ByHand[$Name] None Tsc }
            (Get-KvmVcpuTscOffset $Name -NoStop).OffsetTicks | Should-BeCollection $states[$Name].Vcpus.OffsetTicks
            "$($results[$Name].ResidualTicks), $($results[$Name].GuestClocks)" | Should-Be '0, Kvmclock'
        }

        It 'costs a guest of <Vmm><Variant> nothing that is watched' -ForEach $snapshots.Where({ -not $_.RunsAtOnce }) {
            $corrected = @($events | Where-Object { $_.VMName -eq $Name -and $_.Event -eq 'Corrected' })
            $corrected | Should-BeCollection -Count 1
            $corrected[0].BeforeGuestRan | Should-BeTrue
            Assert-Loss $losses.Watched[$Name] None Clock
            Assert-Loss $losses.Watched[$Name] None Tsc
            Assert-Loss $losses.Watched[$Name] None ClockAll
            $offsets[$Name] | Should-BeCollection $states[$Name].Vcpus.OffsetTicks
            @($events | Where-Object { $_.VMName -eq $Name -and $_.Reason }) | Should-BeCollection @()
        }

        It 'is left alone where its clocks look like those of a new guest: crosvm, not suspended' {
            ($events | Where-Object { $_.VMName -eq 'cd01' }).Event | Should-NotContainCollection Corrected
            Assert-Loss $losses.Watched['cd01'] More Clock
        }
    }

    # As it is written, with other directories.
    Context 'by docs/recipes.md' -Tag Long {
        It 'costs a guest of <Heading> nothing' -ForEach @(
            @{ Heading = 'Firecracker'; Run = '/run/firecracker'; Start = 'firecracker --id web01 --api-sock {0} --config-file none' }
            @{ Heading = 'cloud-hypervisor'; Run = '/run/ch'; Start = 'cloud-hypervisor --api-socket path={0} --kernel none' }
        ) {
            $text = Get-Content "$PSScriptRoot/../../docs/recipes.md" -Raw
            $recipe = [regex]::Match($text, "(?ms)^## $Heading`n.*?^``````bash`n(.*?)^``````").Groups[1].Value
            $null = New-Item "$TestDrive/web01" -ItemType Directory -Force
            $script = $recipe.Replace($Run, $TestDrive).Replace('/srv/snapshots', $TestDrive).Replace('pwsh -NoProfile -c "', "pwsh -NoProfile -c `"Import-Module '$(Get-ManifestPath)'; ")
            Set-Content "$TestDrive/recipe" $script
            $env:PATH, $path = "${programs}:$env:PATH", $env:PATH
            try {
                $processes['web01'] = [Diagnostics.Process]::Start('bash', [string[]] ('-c', "exec $($Start -f "$TestDrive/web01.sock")"))
                Wait-Until 'it listens' { Test-Path "$TestDrive/web01.sock" }
                Wait-Sample web01
                $null = Invoke-Vmm web01 clear
                bash -c "bash -e '$TestDrive/recipe' >'$TestDrive/said' 2>&1" # not to a pipe, which the VMM would keep open
                "$LASTEXITCODE $(Get-Content "$TestDrive/said" -Raw)" | Should-MatchString '^0 '
            }
            finally {
                $env:PATH = $path
            }
            $processes['web01'] = Get-Process -Id (Get-KvmVM web01).ProcessId
            Wait-Sample web01
            Assert-Loss (Get-Loss web01) None Clock
            Assert-Loss (Get-Loss web01) None Tsc
            Close-Vmm web01
        }
    }
}
