Describe 'Test-KvmTscMigration without VMs' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
    }

    It 'reports a source that is not there, and says nothing of whether it would work' {
        $observed = Invoke-Observed { Test-KvmTscMigration nobody -Quiet }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
    }

    It 'refuses <Name>' -ForEach @(
        @{ Name = 'what names no VM'; Arguments = @{ Source = 5 }; Id = 'ParameterArgumentTransformationError' }
        @{ Name = 'a downtime below zero'; Arguments = @{ Source = 'x'; DowntimeSeconds = -1 }; Id = 'ParameterArgumentValidationError' }
        @{ Name = 'a limit below zero'; Arguments = @{ Source = 'x'; MaximumDowntime = -1 }; Id = 'ParameterArgumentTransformationError' }
        @{ Name = 'an allowance below zero'; Arguments = @{ Source = 'x'; MaximumErrorMicroseconds = -1 }; Id = 'ParameterArgumentValidationError' }
    ) {
        { Test-KvmTscMigration @Arguments } | Should-Throw -FullyQualifiedErrorId "$Id*"
    }
}

Describe 'Test-KvmTscMigration of a host that is not at hand' {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        $script:state = Get-SampleState web01 -OffsetTicks -5 -ClockNanoseconds 86400000000000 # one that can be restored
    }

    It 'tells whether it could run the guest, and how exactly' {
        $test = $state | Test-KvmTscMigration -DestinationHost (Get-SampleHost kvm2 2096130) -DowntimeSeconds 30
        $test | Should-HaveType ([KvmTsc.Migration.Preflight.KvmTscMigrationTest])
        "$($test.SourceVMName), $($test.SourceMachineName), $($test.VMName), $($test.MachineName), $($test.MeasuredBy)" | Should-Be 'web01, kvm1, , kvm2, Realtime'
        $test.Passed, $test.DowntimeNanoseconds, [math]::Round($test.DriftPpm, 2) | Should-BeCollection $true, 30000000000, 49.62
        @($test.Findings.Check) | Should-BeCollection @('TscDrift')
        $test = Test-KvmTscMigration $state -DestinationHost (Get-SampleHost kvm2 2600000)
        $test.Passed | Should-BeFalse
        $test.Findings[0].Evidence | Should-BeLikeString "*2096026 kHz is slower than the host's 2600000 kHz*"
        Test-KvmTscMigration $state -DestinationHost (Get-SampleHost kvm2 2600000 48) -Quiet | Should-BeTrue
    }

    It 'takes state and host from sessions and files' {
        $file = Join-Path $TestDrive web01.json
        $state | Export-KvmTscState $file
        foreach ($copy in Copy-Everyhow (Get-SampleHost kvm2)) {
            (Import-KvmTscState $file | Test-KvmTscMigration -DestinationHost $copy).MachineName | Should-Be kvm2
            (Copy-Deserialized $state | Test-KvmTscMigration -DestinationHost $copy -Quiet) | Should-BeTrue
        }
    }

    It 'goes by a comparison of the clocks, if there is one' {
        $arguments = @{ Source = $state; DestinationHost = Get-SampleHost kvm2; Clocks = [pscustomobject] @{ AheadNanoseconds = 9e6; UncertaintyNanoseconds = 0 } }
        (Test-KvmTscMigration @arguments).Findings.Check -contains 'ClocksDisagree' | Should-BeTrue
        (Test-KvmTscMigration @arguments -Downtime Exclude).Passed | Should-BeTrue
    }

    It 'leaves the columns of a plan to whom they are for' {
        $line = [pscustomobject] @{ Source = $state; Destination = 'web02'; DestinationHost = 'h2' }
        ($line | Test-KvmTscMigration -DestinationHost (Get-SampleHost kvm2)).MachineName | Should-Be kvm2
    }

    It 'cannot be of <With> as well' -ForEach @(
        @{ With = 'a destination'; Arguments = @{ Destination = 'web02' } }
        @{ With = 'a destination that is waited for'; Arguments = @{ AtResume = $true } }
    ) {
        { Test-KvmTscMigration $state -DestinationHost (Get-SampleHost kvm2) @Arguments } | Should-Throw -FullyQualifiedErrorId 'AmbiguousParameterSet*'
    }

    It 'refuses <What>' -ForEach @(
        @{ What = 'a name'; Value = 'kvm2' }
        @{ What = 'what is no host'; Value = [pscustomobject] @{ MachineName = 'kvm2' } }
    ) {
        { Test-KvmTscMigration $state -DestinationHost $Value } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentTransformationError*'
    }

    It 'refuses a host that cannot be' {
        $observed = Invoke-Observed { Test-KvmTscMigration $state -DestinationHost (Get-SampleHost kvm2 0) }
        Assert-KvmError $observed.Errors[0] InvalidValue InvalidData web01 'a TSC of 0 kHz' 'Get-KvmHost'
    }
}

Describe 'Test-KvmTscMigration' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        # What a synchronised host would not have.
        function Get-Trouble($Test) {
            @($Test.Findings | Where-Object Severity -NE Information | ForEach-Object { "$($_.Severity) $($_.Side) $($_.Check)" })
        }
    }

    BeforeEach {
        Clear-VM
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        $null = New-KvmVM small
        Set-KvmVcpuTscOffset web0* -1000000
    }

    AfterAll {
        Clear-VM
    }

    It 'passes between two VMs of one host, and changes nothing' {
        Set-KvmVcpuTscOffset web02 -7
        $test = Test-KvmTscMigration web01 web02
        $test | Should-HaveType ([KvmTsc.Migration.Preflight.KvmTscMigrationTest])
        $test.Passed | Should-BeTrue
        "$($test.SourceVMName), $($test.VMName), $($test.MachineName), $($test.MeasuredBy), $($test.DriftPpm)" | Should-Be "web01, web02, $([Environment]::MachineName), HostTsc, 0"
        Get-Trouble $test | Should-BeCollection @()
        $test.ErrorBoundNanoseconds | Should-BeGreaterThan 0
        Get-KernelOffset web02 | Should-BeCollection -7, -7
        Test-KvmTscMigration web01 web02 -Quiet | Should-BeTrue
    }

    It 'judges this host by what it says of itself as it does by asking it' {
        $kvmHost = Get-KvmHost
        foreach ($source in 'web01', (Save-KvmTscState web01)) {
            $test = Test-KvmTscMigration $source -DestinationHost (Copy-Deserialized $kvmHost)
            $asked = Test-KvmTscMigration $source
            "$($test.Passed), $($test.MachineName), $($test.MeasuredBy), $($test.DriftPpm), $(Get-Trouble $test)" |
                Should-Be "$($asked.Passed), $($asked.MachineName), $($asked.MeasuredBy), $($asked.DriftPpm), $(Get-Trouble $asked)"
        }
    }

    It 'takes VMs, states, states from a file, and lines of a plan from the pipeline, against this host or a VM' {
        $state = Save-KvmTscState web01
        $tests = @(Get-KvmVM web01) + $state + (Copy-Deserialized $state) | Test-KvmTscMigration
        $tests.SourceVMName | Should-BeCollection web01, web01, web01
        $tests | Should-All { $_.Passed -and $null -eq $_.VMName -and $_.MachineName -eq [Environment]::MachineName }
        $tests = [pscustomobject] @{ Source = 'web01'; Destination = 'web02' }, [pscustomobject] @{ Source = Copy-Deserialized $state; Destination = Get-KvmVM small } |
            Test-KvmTscMigration
        $tests.VMName | Should-BeCollection web02, small
        $tests.Passed | Should-BeCollection $true, $false
        (Test-KvmTscMigration -State $state -Destination web02).SourceVMName | Should-Be web01
    }

    It 'finds all that is wrong at once, and the migration is refused for the first of it' {
        $test = Test-KvmTscMigration web01 small -DowntimeSeconds 5 -MaximumDowntime 2
        Get-Trouble $test | Should-BeCollection 'Error Both VcpuMismatch', 'Error Both DowntimeExceeded'
        $test.Passed | Should-BeFalse
        $test.Findings | Should-All { $_.Evidence -and $_.Action }
        Test-KvmTscMigration web01 small -Quiet | Should-BeFalse
        $observed = Invoke-Observed { Invoke-KvmTscMigration web01 small -Confirm:$false }
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VcpuMismatch InvalidData small $test.Findings[0].Evidence
    }

    It 'finds a master clock that is off, and one that is mended' {
        Set-KvmVcpuTscOffset web01 -VcpuId 1 -OffsetTicks 5 -Force
        $null = Test-KvmVcpuTscOffset -Name web01
        $test = Test-KvmTscMigration web01 web02
        Get-Trouble $test | Should-BeCollection @('Error Source UnequalOffsets')
        $test.ErrorBoundNanoseconds | Should-BeNull
        $null = Repair-KvmMasterClock web01
        Test-KvmTscMigration web01 web02 -Quiet | Should-BeTrue
    }

    It 'finds a guest that would go back, a warning with -Force, and nothing with -AtResume' {
        Set-KvmVcpuTscOffset web02 5000000000000
        $null = Test-KvmVcpuTscOffset -Name web02
        Get-Trouble (Test-KvmTscMigration web01 web02) | Should-BeCollection @('Error Destination GuestTscBackwards')
        Get-Trouble (Test-KvmTscMigration web01 web02 -Force) | Should-BeCollection @('Warning Destination GuestTscBackwards')
        Get-Trouble (Test-KvmTscMigration web01 web02 -AtResume) | Should-BeCollection @()
    }

    It 'finds clocks that nobody keeps, a leap second, a frequency and a drift in a state of another host' {
        $kHz = (Get-KvmHost).TscKHz
        $state = Copy-Deserialized (Save-KvmTscState web01)
        $state.Host.MachineName = 'elsewhere'
        $state.Host.BootId = 'b5a7f5c6-0000-4000-8000-000000000000'
        $state.Host.ClockStatus = 0x40 # STA_UNSYNC
        $state.Host.TscKHz = $kHz - 100
        $test = Test-KvmTscMigration $state web02
        "$($test.SourceMachineName), $($test.MeasuredBy)" | Should-Be 'elsewhere, Realtime'
        (Get-Trouble $test) -contains 'Error Source ClockUnsynchronized' | Should-BeTrue
        (Get-Trouble $test) -contains 'Warning Both TscDrift' | Should-BeTrue
        $test.DriftPpm | Should-BeGreaterThan 0
        $test.Findings.Where({ $_.Check -eq 'TscDrift' }).Evidence | Should-MatchString ' ppm faster than it was on the source, \d+(\.\d+)? s a day'

        # Nothing is asked of the clocks where the time that they tell does not count.
        $excluded = Test-KvmTscMigration $state web02 -Downtime Exclude
        "$($excluded.MeasuredBy), $($excluded.ErrorBoundNanoseconds)" | Should-Be 'HostTsc, 0'
        Get-Trouble $excluded | Should-BeCollection @('Warning Both TscDrift')
        $state.Vcpus[0].TscKHz = $state.Vcpus[1].TscKHz = [int] ($kHz / 2)
        if (-not (Get-KvmHost).HasTscScaling) {
            (Get-Trouble (Test-KvmTscMigration $state web02)) -contains 'Error Both FrequencyUnsupported' | Should-BeTrue
        }
    }

    It 'finds a state that is older than is allowed or will be, and the migration is refused for it' {
        $state = Save-KvmTscState web01
        Get-Trouble (Test-KvmTscMigration $state web02 -MaximumDowntime 600) | Should-BeCollection @()
        Get-Trouble (Test-KvmTscMigration $state web02 -MaximumDowntime 600 -DowntimeSeconds 700) | Should-BeCollection @('Error Both DowntimeExceeded')
        $test = Test-KvmTscMigration $state web02 -MaximumDowntime 0 -Force
        Get-Trouble $test | Should-BeCollection @('Error Both DowntimeExceeded')
        $observed = Invoke-Observed { Invoke-KvmTscMigration $state web02 -MaximumDowntime 0 -Force }
        Assert-KvmError $observed.Errors[0] DowntimeExceeded InvalidOperation web02 'The downtime of web01 is' 'MaximumDowntime'
    }

    It 'shows what it found' {
        $shown = Test-KvmTscMigration web01 web01 | Out-String -Width 300
        $shown | Should-MatchString 'Passed +: False'
        $shown | Should-MatchString 'Findings +: Error: SameVM \(Both\): web01 is both source and destination'
    }
}
