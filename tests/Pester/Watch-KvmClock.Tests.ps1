Describe 'Watch-KvmClock without VMs' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'refuses <Value> for <Parameter>' -ForEach @(
        @{ Parameter = 'MaximumDowntime'; Value = 'long' }
        @{ Parameter = 'MaximumDowntime'; Value = -1 }
        @{ Parameter = 'TimeoutSeconds'; Value = 0 }
        @{ Parameter = 'Name'; Value = '' }
        @{ Parameter = 'StatePath'; Value = '' }
        @{ Parameter = 'MetricsPath'; Value = 'kvmtsc.txt' }
        @{ Parameter = 'Downtime'; Value = 'Forget' }
        @{ Parameter = 'PolicyPath'; Value = '' }
    ) {
        $given = @{ TimeoutSeconds = 1 }
        $given[$Parameter] = $Value
        { Watch-KvmClock @given } | Should-Throw
    }

    It 'says what is wrong with a policy: <Message>' -ForEach @(
        @{ Policy = '@{ VMs = @{ Name = "a" '; Message = 'line 1: ' }
        @{ Policy = '"VMs"'; Message = 'no hashtable' }
        @{ Policy = '@{ VMs = @{ Name = "$(Get-Date)" } }'; Message = 'no policy' }
        @{ Policy = '@{ VM = @() }'; Message = 'the file has VM, and may have VMs' }
        @{ Policy = '@{ VMs = @{ Name = "a" }, "b" }'; Message = 'entry 2 of VMs is no hashtable' }
        @{ Policy = '@{ VMs = @{ Action = "Report" } }'; Message = 'entry 1 of VMs has no Name' }
        @{ Policy = '@{ VMs = @{ Name = "a"; Acton = "Report" } }'; Message = 'entry 1 of VMs has Acton, and may have Name, Action, Downtime, MaximumDowntime' }
        @{ Policy = '@{ VMs = @{ Name = "a"; Action = "Mend" } }'; Message = 'Action of entry 1 of VMs is Mend, and may be Correct, Report, Ignore' }
        @{ Policy = '@{ VMs = @{ Name = "a"; Downtime = 5 } }'; Message = 'Downtime of entry 1 of VMs is 5, and may be Count, Exclude' }
        @{ Policy = '@{ VMs = @{ Name = "a"; MaximumDowntime = "long" } }'; Message = 'MaximumDowntime of entry 1 of VMs is long' }
        @{ Policy = '@{ VMs = @{ Name = "a"; MaximumDowntime = -1 } }'; Message = 'is negative' }
    ) {
        $file = "$TestDrive/wrong.psd1"
        Set-Content $file $Policy
        $observed = Invoke-Observed { Watch-KvmClock -PolicyPath $file -TimeoutSeconds 1 }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] PolicyInvalid InvalidData '' ([regex]::Escape($Message)) 'about_KvmTsc_Watch'
    }

    It 'says that a policy is not there' {
        $observed = Invoke-Observed { Watch-KvmClock -PolicyPath "$TestDrive/none.psd1" -TimeoutSeconds 1 }
        Assert-KvmError $observed.Errors[0] FileNotFound ObjectNotFound '' 'none.psd1'
    }

    It 'takes the policy that the service has as an example' {
        $observed = Invoke-Observed { Watch-KvmClock nobody -PolicyPath "$((Get-Module KvmTsc).ModuleBase)/service/policy.psd1" -TimeoutSeconds 1 -Confirm:$false }
        @($observed.Errors | Where-Object FullyQualifiedErrorId -NotLike 'TracefsUnavailable*') | Should-BeCollection @()
    }

    It 'says what it needs where it cannot watch' {
        $observed = Invoke-Observed { Watch-KvmClock nobody -TimeoutSeconds 1 }
        $observed.Output | Should-BeCollection @()
        foreach ($failed in $observed.Errors) {
            Assert-KvmError $failed TracefsUnavailable ResourceUnavailable '' 'tracefs' 'Run as root'
        }
    }
}

# A QEMU whose firmware found nothing to boot, so that its vCPUs idle, is paused, reset and killed. kvmclock read against CLOCK_REALTIME tells what its guest lost.
Describe 'Watch-KvmClock' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        . "$PSScriptRoot/Watching.ps1"
        $script:manifest = Get-ManifestPath
        $script:qemu = Open-Watched qemu01

        # The last of them is not paused. Two are at once.
        function Test-Random([int] $Count, [int] $Seconds) {
            $guests = @(1..$Count | ForEach-Object { Open-Watched ('random{0:00}' -f $_) -VcpuCount 1 })
            $watch = Open-Watch @{ Name = 'random*'; Correct = $true; Confirm = $false }
            1..($Count - 1) | ForEach-Object { $null = Wait-Told $watch Found } # one has been
            $before, $offsets = @{}, @{}
            foreach ($guest in $guests) {
                $before[$guest.Name] = Read-Clock $guest.Name
                $offsets[$guest.Name] = (Get-KvmVcpuTscOffset $guest.Name -NoStop).OffsetTicks
            }
            $clock = [Diagnostics.Stopwatch]::StartNew()
            $pauses = 0
            while ($clock.Elapsed.TotalSeconds -lt $Seconds) {
                $one, $other = $guests | Select-Object -SkipLast 1 | Get-Random -Count 2
                $null = Invoke-Qmp $one stop
                Start-Sleep -Milliseconds (Get-Random -Maximum 300)
                $null = Invoke-Qmp $other stop
                Start-Sleep -Milliseconds (Get-Random -Maximum 700)
                $null = Invoke-Qmp $one cont
                $null = Invoke-Qmp $other cont
                $pauses += 2
            }
            foreach ($guest in $guests) {
                Wait-Until "$($guest.Name) has lost nothing" { [math]::Abs((Get-Lost $before[$guest.Name] (Read-Clock $guest.Name))) -lt 100000 }
                (Get-KvmVcpuTscOffset $guest.Name -NoStop).OffsetTicks | Should-Be $offsets[$guest.Name]
            }
            Close-Watch $watch
            $guests | ForEach-Object { Close-Guest $_ }
            @($watch.Events | Where-Object Reason | ForEach-Object { "$($_.VMName) $($_.Event): $($_.Reason)" }) | Should-BeCollection @()
            $corrected = @($watch.Events | Where-Object Event -EQ Corrected)
            $corrected.VMName | Should-NotContainCollection $guests[-1].Name
            $corrected.Count | Should-BeGreaterThan 0
            Write-Information "$pauses pauses, $($corrected.Count) corrections, $(@($corrected | Where-Object BeforeGuestRan).Count) before the guest ran" -InformationAction Continue
        }
    }

    AfterEach {
        Close-OpenWatch
    }

    AfterAll {
        Close-Guest $qemu
    }

    It 'tells a pause and what it cost, and changes nothing' {
        $watch = Open-Watch
        $before = Read-Clock qemu01
        $null = Invoke-Qmp $qemu stop
        (Wait-Told $watch Paused).VMName | Should-Be 'qemu01'
        $null = Invoke-Qmp $qemu cont
        $lost = Wait-Told $watch SetBack
        $lost.LostNanoseconds | Should-BeGreaterThan 100000000
        [math]::Abs($lost.LostNanoseconds - (Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Corrected
    }

    It 'gives back what pauses cost, whether it saw them in time or not' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Read-Clock qemu01
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        foreach ($milliseconds in 20, 100, 400, 20) {
            Invoke-Pause $qemu $milliseconds
            (Wait-Told $watch Corrected).LostNanoseconds | Should-BeGreaterThan ($milliseconds * 1000000)
        }
        [math]::Abs((Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $offset
        Close-Watch $watch
        @($watch.Events | Where-Object Reason | ForEach-Object Reason) | Should-BeCollection @()
        $watch.Events | Where-Object Event -EQ Corrected | Should-All { [math]::Abs($_.ResidualNanoseconds) -le $_.ErrorBoundNanoseconds -and $_.StoppedMicroseconds -gt 0 }
    }

    It 'waits for others that work in the VM' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Read-Clock qemu01
        $other = Start-ThreadJob {
            Import-Module $using:manifest
            while ($true) { $null = Get-KvmClock qemu01 -ErrorAction Ignore }
        }
        Wait-Until 'they work' { $other.State -eq 'Running' }
        for ($i = 0; $i -lt 5; $i++) {
            Invoke-Pause $qemu 30
            $null = Wait-Told $watch Corrected
        }
        Stop-Job $other
        Remove-Job $other
        [math]::Abs((Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
        @($watch.Events | Where-Object Reason | ForEach-Object Reason) | Should-BeCollection @()
    }

    It 'holds a VM that it saw paused before its guest runs' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Read-Clock qemu01
        for ($i = 0; $i -lt 3; $i++) {
            $null = Invoke-Qmp $qemu stop
            $null = Wait-Told $watch Paused
            Wait-Until 'it is watched' { Test-IsWatched $qemu }
            $null = Invoke-Qmp $qemu cont
            (Wait-Told $watch Corrected).BeforeGuestRan | Should-BeTrue
        }

        # Now it sleeps: a processor is for guests.
        $process = Get-Process -Id $PID
        $busy = $process.TotalProcessorTime
        Start-Sleep -Seconds 4
        $process.Refresh()
        ($process.TotalProcessorTime - $busy).TotalSeconds | Should-BeLessThan 2
        [math]::Abs((Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
    }

    It 'lets a VM go that is paused when the watch ends' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $null = Invoke-Qmp $qemu stop
        $null = Wait-Told $watch Paused
        Wait-Until 'it is watched' { Test-IsWatched $qemu }
        Close-Watch $watch
        Test-IsWatched $qemu | Should-BeFalse
        $null = Invoke-Qmp $qemu cont
        (Invoke-Qmp $qemu query-status).status | Should-Be 'running'
    }

    It 'says with -WhatIf what it would give back' {
        $kept, $metrics = "$TestDrive/whatif", "$TestDrive/whatif.prom"
        $watch = Open-Watch @{ Correct = $true; WhatIf = $true; StatePath = $kept; MetricsPath = $metrics }
        $before = Read-Clock qemu01
        Invoke-Pause $qemu 300
        $would = Wait-Told $watch WouldCorrect
        [math]::Abs($would.LostNanoseconds - (Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
        Test-Path $kept, $metrics | Should-BeCollection @($false, $false)
    }

    It 'gives back no more than -MaximumDowntime allows' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; MaximumDowntime = 0.1 }
        $before = Read-Clock qemu01
        Invoke-Pause $qemu 1000
        (Wait-Told $watch Refused).Reason | Should-MatchString 'MaximumDowntime'
        Get-Lost $before (Read-Clock qemu01) | Should-BeGreaterThan 1000000000
        Close-Watch $watch
    }

    It 'has a pause be none for the guest with -Downtime Exclude, if its guest has not run since' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; Downtime = 'Exclude' }
        $kHz = (Get-KvmTscFrequency qemu01 -VcpuId 0).TscKHz
        $before = Read-Clock qemu01
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks[0]
        $null = Invoke-Qmp $qemu stop
        $null = Wait-Told $watch Paused
        Wait-Until 'it is watched' { Test-IsWatched $qemu }
        $null = Invoke-Qmp $qemu cont
        $excluded = (Wait-Told $watch Excluded).LostNanoseconds
        [math]::Abs($excluded - (Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        $moved = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        $moved[1] | Should-Be $moved[0]
        [math]::Abs(($offset - $moved[0]) / $kHz * 1e6 - $excluded) | Should-BeLessThan 2000

        # One that is seen too late has been seen by the guest's TSC. On a slow host a short pause may be long enough to be seen in time.
        do {
            $moved = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
            Invoke-Pause $qemu 20
            $told = Wait-Told $watch Refused, Excluded
        } while ($told.Event -eq 'Excluded')
        $told.Reason | Should-MatchString 'has run since'
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $moved
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Corrected
    }

    It 'does to each VM what a policy says, and else what its parameters do' {
        $policy = "$TestDrive/policy.psd1"
        Set-Content $policy "@{ VMs = @{ Name = 'QEMU*'; Action = 'Report' }, @{ Name = 'ignored*'; Action = 'Ignore' } }"
        $ignored, $other = (Open-Watched ignored01), (Open-Watched other01)
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; PolicyPath = $policy }
        $null = Wait-Told $watch Found
        Invoke-Pause $qemu 300
        (Wait-Told $watch SetBack).VMName | Should-Be 'qemu01'
        Invoke-Pause $ignored 300
        Invoke-Pause $other 300
        (Wait-Told $watch Corrected).VMName | Should-Be 'other01'
        Close-Watch $watch
        Close-Guest $ignored
        Close-Guest $other
        ($watch.Events | Where-Object Event -EQ Corrected).VMName | Should-BeCollection @('other01')
        $watch.Events.VMName | Should-NotContainCollection ignored01
    }

    It 'leaves a guest alone that is reset' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks[0]
        Invoke-Reset $qemu
        (Wait-Told $watch TscMoved).Reason | Should-Be 'Its guest was reset, or somebody set its TSC.'
        $new = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        $new[0] | Should-BeLessThan $offset
        Invoke-Pause $qemu 200
        $null = Wait-Told $watch Corrected
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $new
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Refused
    }

    Context 'with a guest that writes IA32_TSC' {
        BeforeAll {
            $script:writer = Open-Guest writer01 -Directory $TestDrive -Image (& "$PSScriptRoot/../../lab/guest/build") -ClockSource kvm-clock
            Wait-GuestLog $writer '^start '
        }

        AfterAll {
            Close-Guest $writer
        }

        # KVM compares what VMMs write, not what guests do: its master clock stays on, though the TSCs differ.
        It 'leaves its TSCs as it set them, and gives back what pauses take from kvmclock: vCPUs <Vcpus>' -ForEach @{ Vcpus = 0, 1 }, @{ Vcpus = , 1 } {
            $back = 3000000000 # not more than a VM may seem to have been put back by
            $watch = Open-Watch @{ Name = 'writer*'; Correct = $true; Confirm = $false }
            $offset = (Get-KvmVcpuTscOffset writer01 -NoStop).OffsetTicks
            Move-GuestTsc $writer (-$back) $Vcpus
            (Wait-Told $watch TscMoved).Reason | Should-Be 'Its guest wrote its TSC.'
            $written = (Get-KvmVcpuTscOffset writer01 -NoStop).OffsetTicks
            foreach ($id in 0, 1) {
                # When it has read its TSC it may have to wait before it writes it.
                [math]::Abs($offset[$id] - $written[$id] - ($id -in $Vcpus ? $back : 0)) | Should-BeLessThan ($id -in $Vcpus ? $back / 2 : 1)
            }
            $written[0] | Should-NotBe $written[1]

            $before = Read-Clock writer01
            Invoke-Pause $writer 20
            (Wait-Told $watch Corrected).LostNanoseconds | Should-BeGreaterThan 20000000
            $null = Invoke-Qmp $writer stop
            $null = Wait-Told $watch Paused
            Wait-Until 'it is watched' { Test-IsWatched $writer }
            $null = Invoke-Qmp $writer cont
            (Wait-Told $watch Corrected).BeforeGuestRan | Should-BeTrue
            [math]::Abs((Get-Lost $before (Read-Clock writer01))) | Should-BeLessThan 100000
            (Get-KvmVcpuTscOffset writer01 -NoStop).OffsetTicks | Should-BeCollection $written
            Close-Watch $watch
            @($watch.Events | Where-Object Reason | ForEach-Object { "$($_.Event): $($_.Reason)" }) | Should-BeCollection @('TscMoved: Its guest wrote its TSC.')
        }

        It 'gives back what was lost while nobody watched, and leaves the TSCs that its guest parted' {
            $kept = "$TestDrive/written"
            $watch = Open-Watch @{ Name = 'writer*'; Correct = $true; Confirm = $false; StatePath = $kept }
            $before = Read-Clock writer01
            $written = (Get-KvmVcpuTscOffset writer01 -NoStop).OffsetTicks
            Close-Watch $watch
            Invoke-Pause $writer 500
            $watch = Open-Watch @{ Name = 'writer*'; Correct = $true; Confirm = $false; StatePath = $kept }
            (Wait-Told $watch Corrected).LostNanoseconds | Should-BeGreaterThan 500000000
            [math]::Abs((Get-Lost $before (Read-Clock writer01))) | Should-BeLessThan 100000
            (Get-KvmVcpuTscOffset writer01 -NoStop).OffsetTicks | Should-BeCollection $written
            Close-Watch $watch
        }
    }

    It 'tells that KVM turned its master clock off, and on again, and leaves the guest alone' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks[0]
        Set-KvmVcpuTscOffset qemu01 -VcpuId 1 -OffsetTicks ($offset + 5000) -Force
        (Wait-Told $watch MasterClockLost).Reason | Should-MatchString 'Repair-KvmMasterClock'
        Wait-Until 'it is let go' { Repair-KvmMasterClock qemu01 -Confirm:$false -ErrorAction Ignore; (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks[0] -ne $offset }
        $null = Wait-Told $watch MasterClockRegained
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Corrected
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection @(($offset + 5000), ($offset + 5000))
    }

    It 'gives back what a snapshot took, <Seconds> s old' -ForEach @{ Seconds = 0 }, @{ Seconds = 5 } {
        $saved = Open-Watched snapshot01
        Add-SnapshotDisk $saved
        $watch = Open-Watch @{ Name = 'snapshot*'; Correct = $true; Confirm = $false }
        Wait-Grown snapshot01
        $before = Read-Clock snapshot01
        $offset = (Get-KvmVcpuTscOffset snapshot01 -NoStop).OffsetTicks
        Save-Snapshot $saved
        $null = Wait-Told $watch Corrected # a snapshot is a pause, too
        Start-Sleep -Seconds $Seconds
        Restore-Snapshot $saved
        (Wait-Told $watch Corrected).LostNanoseconds | Should-BeGreaterThan ($Seconds * 1000000000)
        [math]::Abs((Get-Lost $before (Read-Clock snapshot01))) | Should-BeLessThan 100000
        (Get-KvmVcpuTscOffset snapshot01 -NoStop).OffsetTicks | Should-BeCollection $offset
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Refused
        Close-Guest $saved
    }

    It 'leaves a VM alone that is put back to before what the watch has seen' {
        $saved = Open-Watched snapshot02
        Add-SnapshotDisk $saved
        Wait-Grown snapshot02
        Save-Snapshot $saved
        Invoke-Reset $saved
        $watch = Open-Watch @{ Name = 'snapshot*'; Correct = $true; Confirm = $false }
        $before = Read-Clock snapshot02
        Restore-Snapshot $saved
        (Wait-Told $watch Refused).Reason | Should-MatchString 'a moment that this watch has not seen|would go back'
        Get-Lost $before (Read-Clock snapshot02) | Should-BeGreaterThan 10000000
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Corrected
        Close-Guest $saved
    }

    It 'moves no guest when CLOCK_REALTIME is set' {
        if (-not (Select-String 'kvmlab_host=' /proc/cmdline -Quiet)) {
            Set-ItResult -Skipped -Because 'it sets the clock of the host, which only an emulated one is for: lab/kvmlab exec --emulate'
        }
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Read-Clock qemu01
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        foreach ($hours in 1, -1) {
            $null = Invoke-Qmp $qemu stop
            $null = Wait-Told $watch Paused
            Wait-Until 'it is watched' { Test-IsWatched $qemu }
            $null = date --set "$hours hour"
            $null = Invoke-Qmp $qemu cont
            (Wait-Told $watch Corrected).LostNanoseconds | Should-BeLessThan 600000000000
            [math]::Abs((Get-LostByTsc $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        }
        $null = date --set '1 hour'
        Start-Sleep -Seconds 1
        $null = date --set '-1 hour'
        [math]::Abs((Get-LostByTsc $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $offset
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Refused
    }

    It 'says that it leaves out a VM of its own process' {
        New-KvmVM own01
        try {
            $told = Watch-KvmClock own01 -TimeoutSeconds 1
            $told.VMName, $told.Event | Should-BeCollection @('own01', 'LeftOut')
            $told.Reason | Should-MatchString 'of this process'
        }
        finally {
            Remove-KvmVM own01 -Confirm:$false
        }
    }

    # ./build.sh Soak has 20 VMs, for five minutes.
    It 'gives back all that <Count> VMs lose that are paused at random, and touches no other' -ForEach @{ Count = 4; Seconds = 20 } { Test-Random $Count $Seconds }
    It 'gives back all that <Count> VMs lose that are paused at random, and touches no other' -Tag Long -ForEach @{ Count = 20; Seconds = 300 } { Test-Random $Count $Seconds }

    It 'finds a VM that comes, and tells when it ends; others are left out' {
        $watch = Open-Watch @{ Name = 'qemu01', 'late*' }
        $late = Open-Watched late01
        $other = Open-Watched other01
        (Wait-Told $watch Found).VMName | Should-Be 'late01'
        Close-Guest $late
        Close-Guest $other
        (Wait-Told $watch Ended).VMName | Should-Be 'late01'
        Close-Watch $watch
        $watch.Events.VMName | Should-NotContainCollection other01
    }

    It 'gives a VM that is saved and restored its time, in a process of its own, before its guest runs' {
        $first = Open-Watched moved01
        $watch = Open-Watch @{ Name = 'moved*'; Correct = $true; Confirm = $false }
        Wait-Grown moved01
        $before = Read-Clock moved01
        $null = Invoke-Qmp $first stop
        $null = Wait-Told $watch Paused
        $null = Invoke-Qmp $first migrate @{ uri = "exec:cat > $TestDrive/moved01.state" }
        Wait-Until 'it is saved' { (Invoke-Qmp $first query-migrate).status -eq 'completed' }
        Close-Guest $first
        $null = Wait-Told $watch Ended
        $second = Open-Watched moved01 -Incoming 'defer' -Directory "$TestDrive/second"
        $null = Wait-Told $watch Found
        Wait-Watched $second
        $null = Invoke-Qmp $second migrate-incoming @{ uri = "exec:cat $TestDrive/moved01.state" }
        Wait-Until 'it is restored' { (Invoke-Qmp $second query-status).status -in 'paused', 'running' }
        $null = Invoke-Qmp $second cont
        $corrected = Wait-Told $watch Corrected
        $corrected.BeforeGuestRan | Should-BeTrue
        [math]::Abs((Get-Lost $before (Read-Clock moved01))) | Should-BeLessThan 100000
        Close-Watch $watch
        Close-Guest $second
    }

    It 'gives a VM that moves to another process while it runs its time, before its guest runs there' {
        $first = Open-Watched live01
        $watch = Open-Watch @{ Name = 'live*'; Correct = $true; Confirm = $false }
        Wait-Grown live01
        $before = Read-Clock live01
        $second = Open-Watched live01 -Incoming 'defer' -Directory "$TestDrive/second"
        $null = Wait-Told $watch Found
        Wait-Watched $second
        $null = Invoke-Qmp $second migrate-incoming @{ uri = "unix:$TestDrive/live01.socket" }
        $null = Invoke-Qmp $first migrate-set-parameters @{ 'downtime-limit' = 2000 } # the last of its memory may come late
        $null = Invoke-Qmp $first migrate @{ uri = "unix:$TestDrive/live01.socket" }
        (Wait-Told $watch Corrected).BeforeGuestRan | Should-BeTrue
        Close-Guest $first
        [math]::Abs((Get-Lost $before (Read-Clock live01))) | Should-BeLessThan 100000
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Refused
        Close-Guest $second
    }

    It 'takes a new VM of a name that it knows for a new one' {
        $first = Open-Watched again01
        $watch = Open-Watch @{ Name = 'again*'; Correct = $true; Confirm = $false }
        Close-Guest $first
        $null = Wait-Told $watch Ended
        $second = Open-Watched again01 -Directory "$TestDrive/again"
        $null = Wait-Told $watch Found
        $offset = (Get-KvmVcpuTscOffset again01 -NoStop).OffsetTicks
        Close-Watch $watch
        (Get-KvmVcpuTscOffset again01 -NoStop).OffsetTicks | Should-BeCollection $offset
        $watch.Events.Event | Should-NotContainCollection Corrected
        $watch.Events.Event | Should-NotContainCollection Refused
        Close-Guest $second
    }

    It 'gives back what was lost while nobody watched' {
        $kept = "$TestDrive/kept"
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; StatePath = $kept }
        $before = Read-Clock qemu01
        Close-Watch $watch
        (Get-Item $kept).UnixMode | Should-Be 'drwx------'
        @(Get-ChildItem $kept).Count | Should-BeGreaterThan 0
        (Get-ChildItem $kept | Import-KvmTscState).VMName | Should-ContainCollection 'qemu01'
        Set-Content "$kept/other.kvmtsc.json" 'no state'
        Invoke-Pause $qemu 500
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; StatePath = $kept }
        $corrected = Wait-Told $watch Corrected
        $corrected.LostNanoseconds | Should-BeGreaterThan 500000000
        [math]::Abs((Get-Lost $before (Read-Clock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
        Test-Path "$kept/other.kvmtsc.json" | Should-BeFalse
    }

    It 'counts for Prometheus' {
        $metrics = "$TestDrive/kvmtsc.prom"
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; MetricsPath = $metrics }
        Invoke-Pause $qemu 400
        $lost = (Wait-Told $watch Corrected).LostNanoseconds / 1e9
        Wait-Until 'it is counted' { Select-String '^kvmtsc_vm_corrections_total\{vm="qemu01"\} 1$' $metrics -Quiet }
        $line = (Select-String '^kvmtsc_vm_corrected_seconds_total\{vm="qemu01"\} (?<seconds>\S+)$' $metrics).Matches[0]
        [math]::Abs([double] $line.Groups['seconds'].Value - $lost) | Should-BeLessThan 1e-9
        (Get-Item $metrics).UnixMode | Should-Be '-rw-r--r--'
        Close-Watch $watch
        Get-ChildItem $TestDrive -Filter '*.tmp' | Should-BeCollection @()
    }

    It 'is scraped by Prometheus'' node exporter' {
        $exporter = Get-Command prometheus-node-exporter -CommandType Application -ErrorAction Ignore | Select-Object -First 1
        if (-not $exporter) {
            Set-ItResult -Skipped -Because 'prometheus-node-exporter is missing: sudo apt-get install prometheus-node-exporter'
        }
        $null = New-Item "$TestDrive/collected" -ItemType Directory
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; MetricsPath = "$TestDrive/collected/kvmtsc.prom" }
        Invoke-Pause $qemu 400
        $lost = (Wait-Told $watch Corrected).LostNanoseconds / 1e9
        $arguments = '--collector.disable-defaults', '--collector.textfile', "--collector.textfile.directory=$TestDrive/collected", '--web.listen-address=127.0.0.1:19100'
        $scraped = Start-Process $exporter.Source -ArgumentList $arguments -PassThru -RedirectStandardError "$TestDrive/exporter.errors"
        try {
            $answer = @{}
            Wait-Until 'the exporter has it' {
                $answer.Lines = try { (Invoke-RestMethod http://127.0.0.1:19100/metrics) -split "`n" } catch { @() }
                $answer.Lines -match '^kvmtsc_vm_corrections_total\{vm="qemu01"\} 1$'
            }
        }
        finally {
            $scraped.Kill()
        }
        $answer.Lines | Should-ContainCollection 'node_textfile_scrape_error 0'
        $answer.Lines | Should-ContainCollection '# TYPE kvmtsc_vm_corrected_seconds_total counter'
        $seconds = $answer.Lines -match '^kvmtsc_vm_corrected_seconds_total\{vm="qemu01"\} ' -replace '.* '
        [math]::Abs([double] $seconds[0] - $lost) | Should-BeLessThan 1e-9
        Close-Watch $watch
    }

    It 'is a stream that others end, and that ends by itself' {
        (Watch-KvmClock | Select-Object -First 1).Event | Should-Be 'Found'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        (Watch-KvmClock qemu01 -TimeoutSeconds 1).Event | Should-BeCollection @('Found')
        $clock.Elapsed.TotalSeconds | Should-BeGreaterThanOrEqual 1
        Get-TraceInstance | Should-BeCollection @()
    }

    It 'removes what a watch left that was killed' {
        $killed = Start-Process (Get-Process -Id $PID).Path -PassThru -ArgumentList '-NoProfile', '-Command', "Import-Module '$(Get-ManifestPath)'; Watch-KvmClock"
        Wait-Until 'it watches' { @(Get-TraceInstance).Count -eq 2 }
        $killed.Kill()
        $killed.WaitForExit()
        (Watch-KvmClock qemu01 -TimeoutSeconds 1).Event | Should-BeCollection @('Found')
        Get-TraceInstance | Should-BeCollection @()
    }

    It 'reads as a line of JSON, and at 80 columns' {
        $found = Watch-KvmClock qemu01 -TimeoutSeconds 1
        $found | ConvertTo-Json -Compress | Should-MatchString '"VMName":"qemu01","Event":"Found"'
        ($found | Out-String -Width 80).Split("`n") | Should-All { $_.Length -le 80 }
        $found | Out-String -Width 80 | Should-MatchString 'qemu01 +Found +\d+\.\d{3}'
    }
}
