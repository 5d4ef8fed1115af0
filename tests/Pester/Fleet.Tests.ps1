# Six VMs over two hosts: lab/kvmlab exec --hosts h1,h2. A VM of a session is one of the process at its other end.
Describe 'The sample Invoke-FleetMigration.ps1' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:manifest = Get-ManifestPath
        $script:sample = (Resolve-Path "$PSScriptRoot/../../samples/Invoke-FleetMigration.ps1").ProviderPath

        $script:sessions = @{}
        foreach ($session in New-PSSession -HostName h1, h2) {
            $sessions[$session.ComputerName] = $session
        }
        Invoke-Command @($sessions.Values) { Import-Module $using:manifest } | Out-Null

        function Get-Offset([string] $HostName, [string] $Name) {
            Invoke-Command $sessions[$HostName] { (Get-KvmVcpuTscOffset $using:Name).OffsetTicks }
        }

        function Invoke-Fleet([string] $Csv, [hashtable] $Parameters = @{}) {
            & $sample ($Csv | ConvertFrom-Csv) -Session @($sessions.Values) @Parameters
        }

        $script:columns = "Source,SourceHost,Destination,DestinationHost`n"
        $script:plan = $columns + "web01,h1,web01,h2`nweb02,h1,web02,h2`nodd,h1,odd,h2`ndb01,h2,db01,h1`ndb02,h2,db02,h1`nweb01,h1,web01-new,h1"
        $script:day = [ulong] 86400000000000
    }

    BeforeEach {
        # Sources are a day ahead of destinations, each by a little more than the one before it.
        $create = {
            param([string[]] $Sources, [string[]] $Destinations, [ulong] $Clock, [string] $Odd, [int] $OddVcpus)
            Get-KvmVM -ProcessId $PID -ErrorAction Ignore | Remove-KvmVM
            $null = @($Sources) + $Destinations | New-KvmVM -VcpuCount 2
            $null = New-KvmVM $Odd -VcpuCount $OddVcpus
            foreach ($name in $Sources + $Odd) {
                Set-KvmVcpuTscOffset $name 1000000000000
                Set-KvmClock $name ($Clock += 1000000000)
            }
            Set-KvmVcpuTscOffset $Destinations -5000
        }
        Invoke-Command $sessions.h1 $create -ArgumentList ('web01', 'web02'), ('db01', 'db02', 'web01-new'), $day, 'odd', 2
        Invoke-Command $sessions.h2 $create -ArgumentList ('db01', 'db02'), ('web01', 'web02'), $day, 'odd', 1
    }

    AfterAll {
        $sessions.Values | Remove-PSSession
    }

    It 'changes nothing where one pair would be refused, and says why' {
        $rows = Invoke-Fleet $plan
        $LASTEXITCODE | Should-Be 1
        $rows.Count | Should-Be 6
        $rows.Where({ $_.Outcome -eq 'NotTried' }).Count | Should-Be 5
        $refused = $rows.Where({ $_.Outcome -eq 'Refused' })
        "$($refused.Source) on $($refused.SourceHost) to $($refused.Destination) on $($refused.DestinationHost)" | Should-Be 'odd on h1 to odd on h2'
        $refused.Error | Should-BeLikeString '*0-1, odd has 0*'
        Get-Offset h2 web01 | Should-BeCollection -5000, -5000
        Get-Offset h1 db02 | Should-BeCollection -5000, -5000
    }

    It 'does the others with -SkipRefused, within their bounds' {
        $rows = Invoke-Fleet $plan @{ SkipRefused = $true; ThrottleLimit = 4 }
        $LASTEXITCODE | Should-Be 2
        $rows.Count | Should-Be 6
        $rows.Where({ $_.Outcome -eq 'Refused' }).Source | Should-Be 'odd'
        $migrated = $rows.Where({ $_.Outcome -eq 'Migrated' })
        $migrated.Count | Should-Be 5
        $migrated | Should-All {
            [math]::Abs($_.ResidualNanoseconds) -le $_.ErrorBoundNanoseconds -and [math]::Abs($_.ClockResidualNanoseconds) -le $_.ErrorBoundNanoseconds -and
            $_.DowntimeSeconds -gt 0 -and -not $_.Error
        }
        foreach ($row in $migrated) {
            # A destination on the source's host has its offset, and each of the others a kvmclock that goes on from its own source's.
            Invoke-Command $sessions[$row.DestinationHost] { (Get-KvmClock $using:row.Destination).ClockNanoseconds } | Should-BeGreaterThan $day
        }
        Get-Offset h1 web01-new | Should-BeCollection 1000000000000, 1000000000000
        $rows | Format-Table Source, SourceHost, Destination, DestinationHost, Outcome, DowntimeSeconds, ResidualNanoseconds, ErrorBoundNanoseconds, Error |
            Out-String -Width 200 | Write-Information -InformationAction Continue
    }

    It 'looks by Test-KvmTscMigration, which looks between hosts and shows what it found as here' {
        $line = [pscustomobject] @{ Source = 'web01'; Destination = 'web01'; SourceSession = $sessions.h1; DestinationSession = $sessions.h2 }
        $test = $line | Test-KvmTscMigration
        "$($test.Passed), $($test.MeasuredBy), $($test.SourceMachineName), $($test.MachineName), $($test.PSComputerName)" | Should-Be 'True, Realtime, h1, h2, h2'
        $test.ErrorBoundNanoseconds | Should-BeGreaterThan 0
        $test | Out-String | Should-MatchString 'Source +: web01 on h1\r?\n *Destination +: web01 on h2'
        $odd = Test-KvmTscMigration odd odd -SourceSession $sessions.h1 -DestinationSession $sessions.h2
        $odd.Findings.Where({ $_.Severity -eq 'Error' }).Check | Should-BeCollection @('VcpuMismatch')
        $odd.Findings[0] | Should-HaveType ([KvmTsc.Migration.Preflight.KvmTscFinding])
        Test-KvmTscMigration odd -SourceSession $sessions.h1 -DestinationSession $sessions.h2 -Quiet | Should-BeTrue # a VM that is yet to come
        $observed = Invoke-Observed { Invoke-KvmTscMigration odd odd -SourceSession $sessions.h1 -DestinationSession $sessions.h2 -Confirm:$false }
        "$($observed.Errors[0].TargetObject.VMName) on $($observed.Errors[0].TargetObject.ComputerName)" | Should-Be 'odd on h2'
    }

    It 'goes on where one fails although it would not have been refused' {
        # A destination that has run, and a source that is set back below it by the line before.
        Invoke-Command $sessions.h1 {
            $null = 'late', 'ran', 'early' | New-KvmVM -VcpuCount 2
            Set-KvmVcpuTscOffset late, early 1000000000000
            Set-KvmClock early 1000000000
            Set-KvmClock late 90000000000000
            Set-KvmClock ran 80000000000000
            $null = Test-KvmVcpuTscOffset -Name ran
        }
        $lines = "early,h1,late,h1`nlate,h1,ran,h1`nweb01,h1,web01,h2`ndb01,h2,db01,h1"
        $rows = Invoke-Fleet ($columns + $lines) @{ ThrottleLimit = 1 }
        $LASTEXITCODE | Should-Be 2
        $rows.Outcome | Should-BeCollection Migrated, Failed, Migrated, Migrated
        $rows[1].Error | Should-BeLikeString '*go back*'
        $rows.Destination | Should-BeCollection late, ran, web01, db01
    }

    It 'only looks with -WhatIf' {
        $rows = Invoke-Fleet ($plan -replace '(?m)^odd.*\n') @{ WhatIf = $true }
        $LASTEXITCODE | Should-Be 0
        $rows.Outcome | Should-BeCollection (@('NotTried') * 5)
        Get-Offset h2 web01 | Should-BeCollection -5000, -5000
    }

    It 'obeys -MaximumDowntime and -Downtime' {
        (Invoke-Fleet ($columns + 'web01,h1,web01,h2') @{ MaximumDowntime = 0 }).Error | Should-BeLikeString '*The downtime of web01 is*'
        $row = Invoke-Fleet ($columns + 'web01,h1,web01,h2') @{ Downtime = 'Exclude'; MaximumDowntime = 600 }
        $row.Outcome | Should-Be Migrated
        $row.ErrorBoundNanoseconds | Should-BeLessThan 10e6 # between these hosts' clocks it would be their maximum errors
    }

    It 'refuses a plan that names a destination twice' {
        { Invoke-Fleet ($columns + "web01,h1,web01,h2`nweb02,h1,web01,h2") } | Should-Throw -ExceptionMessage '*web01 on h2 twice*'
    }

    It 'opens sessions by itself, reports a host that cannot be reached, and tells its exit status' {
        $columns + "nobody,h2,nothing,h2`nweb01,127.0.0.1:1,web01,h2" | Set-Content $TestDrive/plan.csv
        $before = (Get-PSSession).Id
        & $sample $TestDrive/plan.csv -Module $manifest | Export-Csv $TestDrive/outcome.csv
        $LASTEXITCODE | Should-Be 1
        (Get-PSSession).Id | Should-BeCollection $before
        $rows = Import-Csv $TestDrive/outcome.csv
        $rows.Outcome | Should-BeCollection Refused, Refused
        $rows[0].Error | Should-BeLikeString '*nobody*'
        $rows[1].Error | Should-BeLikeString '127.0.0.1:1: *'
    }
}
