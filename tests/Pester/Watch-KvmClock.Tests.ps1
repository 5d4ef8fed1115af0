Describe 'Watch-KvmClock without VMs' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'refuses <Value> for <Parameter>' -ForEach @(
        @{ Parameter = 'MaximumDowntime'; Value = 'long' }
        @{ Parameter = 'MaximumDowntime'; Value = -1 }
        @{ Parameter = 'TimeoutSeconds'; Value = 0 }
        @{ Parameter = 'Name'; Value = '' }
    ) {
        $given = @{ TimeoutSeconds = 1 }
        $given[$Parameter] = $Value
        { Watch-KvmClock @given } | Should-Throw
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
        Import-Module "$PSScriptRoot/../../samples/QemuMigration/Qemu.psm1"
        $script:instances = '/sys/kernel/debug/tracing/instances'

        function Open-Watched([string] $Name) {
            $firmware = "$TestDrive/$Name.firmware"
            Open-Qemu -Name $Name -Directory $TestDrive -Options @(
                '-cpu', 'host', '-smp', '2', '-m', '32M'
                '-chardev', "file,id=firmware,path=$firmware", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware'
            )
            Wait-Until 'the firmware gives up' { Select-String 'No bootable device' $firmware -Quiet }
        }

        # Watches in the background, until Close-Watch.
        function Open-Watch([hashtable] $Given = @{}) {
            $state = [initialsessionstate]::CreateDefault2()
            $state.ImportPSModule((Get-ManifestPath))
            $events = [System.Management.Automation.PSDataCollection[psobject]]::new()
            $shell = [powershell]::Create($state).AddCommand('Watch-KvmClock').AddParameters($Given)
            $nothing = [System.Management.Automation.PSDataCollection[psobject]]::new()
            $nothing.Complete()
            $null = $shell.BeginInvoke($nothing, $events)
            $watch = @{ Shell = $shell; Events = $events; Seen = 0 }
            $null = Wait-Told $watch Found
            $watch
        }

        # The next event of that name; those before it are passed over.
        function Wait-Told([hashtable] $Watch, [string] $Name) {
            Wait-Until "the watch tells of $Name" {
                while ($Watch.Seen -lt $Watch.Events.Count) {
                    if ($Watch.Events[$Watch.Seen++].Event -eq $Name) { return $true }
                }
                $false
            }
            $Watch.Events[$Watch.Seen - 1]
        }

        function Close-Watch([hashtable] $Watch) {
            $stopping = $Watch.Shell.BeginStop($null, $null)
            $stopping.AsyncWaitHandle.WaitOne(120000) | Should-BeTrue
            $Watch.Shell.Streams.Error | Should-BeCollection @()
            $Watch.Shell.Dispose()
            Get-ChildItem $instances -Filter 'kvmtsc-*' | Should-BeCollection @()
        }

        # What the guest lost between two readings, in nanoseconds.
        function Get-Lost([object] $Before, [object] $After) {
            ([long] $After.RealtimeNanoseconds - [long] $Before.RealtimeNanoseconds) - ([long] $After.ClockNanoseconds - [long] $Before.ClockNanoseconds)
        }

        function Invoke-Pause([int] $Milliseconds) {
            $null = Invoke-Qmp $qemu stop
            Start-Sleep -Milliseconds $Milliseconds
            $null = Invoke-Qmp $qemu cont
        }

        $script:qemu = Open-Watched qemu01
    }

    AfterAll {
        Close-Guest $qemu
    }

    It 'tells a pause and what it cost, and changes nothing' {
        $watch = Open-Watch
        $before = Get-KvmClock qemu01
        $null = Invoke-Qmp $qemu stop
        (Wait-Told $watch Paused).VMName | Should-Be 'qemu01'
        $null = Invoke-Qmp $qemu cont
        $lost = Wait-Told $watch SetBack
        $lost.LostNanoseconds | Should-BeGreaterThan 100000000
        [math]::Abs($lost.LostNanoseconds - (Get-Lost $before (Get-KvmClock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Corrected
    }

    It 'gives back what pauses cost, whether it saw them in time or not' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Get-KvmClock qemu01
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        foreach ($milliseconds in 20, 100, 400, 20) {
            Invoke-Pause $milliseconds
            (Wait-Told $watch Corrected).LostNanoseconds | Should-BeGreaterThan ($milliseconds * 1000000)
        }
        [math]::Abs((Get-Lost $before (Get-KvmClock qemu01))) | Should-BeLessThan 100000
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $offset
        Close-Watch $watch
        $watch.Events | Where-Object Event -EQ Corrected | Should-All { [math]::Abs($_.ResidualNanoseconds) -le $_.ErrorBoundNanoseconds -and $_.StoppedMicroseconds -gt 0 }
        $watch.Events.Event | Should-NotContainCollection Refused
    }

    It 'holds a VM that it saw paused before its guest runs' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $before = Get-KvmClock qemu01
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
        [math]::Abs((Get-Lost $before (Get-KvmClock qemu01))) | Should-BeLessThan 100000
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
        $watch = Open-Watch @{ Correct = $true; WhatIf = $true }
        $before = Get-KvmClock qemu01
        Invoke-Pause 300
        $would = Wait-Told $watch WouldCorrect
        [math]::Abs($would.LostNanoseconds - (Get-Lost $before (Get-KvmClock qemu01))) | Should-BeLessThan 100000
        Close-Watch $watch
    }

    It 'gives back no more than -MaximumDowntime allows' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false; MaximumDowntime = 0.1 }
        $before = Get-KvmClock qemu01
        Invoke-Pause 1000
        (Wait-Told $watch Refused).Reason | Should-MatchString 'MaximumDowntime'
        Get-Lost $before (Get-KvmClock qemu01) | Should-BeGreaterThan 1000000000
        Close-Watch $watch
    }

    It 'leaves a guest alone that is reset' {
        $watch = Open-Watch @{ Correct = $true; Confirm = $false }
        $offset = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks[0]
        $null = Invoke-Qmp $qemu system_reset
        (Wait-Told $watch TscMoved).Reason | Should-MatchString 'reset'
        $new = (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks
        $new[0] | Should-BeLessThan $offset
        Invoke-Pause 200
        $null = Wait-Told $watch Corrected
        (Get-KvmVcpuTscOffset qemu01 -NoStop).OffsetTicks | Should-BeCollection $new
        Close-Watch $watch
        $watch.Events.Event | Should-NotContainCollection Refused
    }

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

    It 'is a stream that others end, and that ends by itself' {
        (Watch-KvmClock | Select-Object -First 1).Event | Should-Be 'Found'
        $clock = [Diagnostics.Stopwatch]::StartNew()
        (Watch-KvmClock qemu01 -TimeoutSeconds 1).Event | Should-BeCollection @('Found')
        $clock.Elapsed.TotalSeconds | Should-BeGreaterThanOrEqual 1
        Get-ChildItem $instances -Filter 'kvmtsc-*' | Should-BeCollection @()
    }

    It 'removes what a watch left that was killed' {
        $killed = Start-Process (Get-Process -Id $PID).Path -PassThru -ArgumentList '-NoProfile', '-Command', "Import-Module '$(Get-ManifestPath)'; Watch-KvmClock"
        Wait-Until 'it watches' { @(Get-ChildItem $instances -Filter 'kvmtsc-*').Count -eq 2 }
        $killed.Kill()
        $killed.WaitForExit()
        (Watch-KvmClock qemu01 -TimeoutSeconds 1).Event | Should-BeCollection @('Found')
        Get-ChildItem $instances -Filter 'kvmtsc-*' | Should-BeCollection @()
    }

    It 'reads as a line of JSON, and at 80 columns' {
        $found = Watch-KvmClock qemu01 -TimeoutSeconds 1
        $found | ConvertTo-Json -Compress | Should-MatchString '"VMName":"qemu01","Event":"Found"'
        ($found | Out-String -Width 80).Split("`n") | Should-All { $_.Length -le 80 }
        $found | Out-String -Width 80 | Should-MatchString 'qemu01 +Found +\d+\.\d{3}'
    }
}
