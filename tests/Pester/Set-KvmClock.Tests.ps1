Describe 'Set-KvmClock' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:second = [ulong] 1000000000
        $script:hour = 3600 * $second
        $script:day = 24 * $hour
        function Get-RealtimeNanosecond {
            [ulong] ([datetime]::UtcNow - [datetime]::UnixEpoch).Ticks * 100
        }
    }

    BeforeEach {
        $null = 'web01', 'web02' | New-KvmVM
    }

    AfterEach {
        Clear-VM
    }

    It 'sets kvmclock as it is, and it goes on from there' {
        $before = Get-RealtimeNanosecond
        Set-KvmClock web01 $day | Should-BeNull
        $clock = (Get-KvmClock web01).ClockNanoseconds
        $clock | Should-BeGreaterThanOrEqual $day
        $clock | Should-BeLessThan ($day + (Get-RealtimeNanosecond) - $before + 1000000)
    }

    It 'advances it by the real time since, when given one' {
        $before = Get-RealtimeNanosecond
        Set-KvmClock web01 $day ($before - $hour)
        $clock = (Get-KvmClock web01).ClockNanoseconds
        $clock | Should-BeGreaterThanOrEqual ($day + $hour)
        $clock | Should-BeLessThan ($day + $hour + (Get-RealtimeNanosecond) - $before + 1000000)
    }

    It 'writes the clock, read back, with -PassThru' {
        $clock = Set-KvmClock web01 $day -PassThru
        $clock | Should-HaveType ([KvmTsc.Clocks.KvmClock])
        $clock.VMName | Should-Be 'web01'
        $clock.ClockNanoseconds | Should-BeGreaterThanOrEqual $day
        (Get-KvmClock web01).ClockNanoseconds | Should-BeGreaterThan $clock.ClockNanoseconds
        (Get-KvmClock web01).HostTsc | Should-BeGreaterThan $clock.HostTsc
    }

    It 'takes a reading of another VM, also one that came back from a job' {
        Set-KvmClock web01 $day
        $reading = Get-KvmClock web01
        $reading | Set-KvmClock -VM web02
        (Get-KvmClock web02).ClockNanoseconds | Should-BeGreaterThan $reading.ClockNanoseconds
        Set-KvmClock web02 0
        Copy-Deserialized $reading | Set-KvmClock -VM (Copy-Deserialized (Get-KvmVM web02))
        (Get-KvmClock web02).ClockNanoseconds | Should-BeGreaterThan $reading.ClockNanoseconds
    }

    It 'gives a VM its own reading back when that is piped to it' {
        Set-KvmClock web01 $day
        $reading = Get-KvmClock web01
        Set-KvmClock web01 0
        $reading | Set-KvmClock
        (Get-KvmClock web01).ClockNanoseconds | Should-BeGreaterThan $reading.ClockNanoseconds
        (Get-KvmClock web02).ClockNanoseconds | Should-BeLessThan $day
    }

    It 'sets the clocks of several VMs' {
        (Get-KvmVM web* | Set-KvmClock -ClockNanoseconds $day -PassThru).VMName | Should-BeCollection web01, web02
        (Get-KvmClock web*).ClockNanoseconds | Should-All { $_ -ge $day }
    }

    Context 'what it refuses: <Name>' -ForEach @(
        @{
            Name = 'a CLOCK_REALTIME in the future, which KVM takes silently'; Id = 'RealtimeInFuture'; Category = 'InvalidOperation'
            Arguments = { @{ ClockNanoseconds = $day; RealtimeNanoseconds = (Get-RealtimeNanosecond) + $hour } }
            Message = 'in the future'; Action = 'Synchronise'
        }
        @{
            Name = 'a CLOCK_REALTIME of 0'; Id = 'RealtimeInvalid'; Category = 'InvalidArgument'
            Arguments = { @{ ClockNanoseconds = $day; RealtimeNanoseconds = 0 } }; Message = 'since 1970'; Action = 'Give the CLOCK_REALTIME'
        }
        @{
            Name = 'a reading without CLOCK_REALTIME'; Id = 'RealtimeInvalid'; Category = 'InvalidArgument'
            Arguments = { @{ ClockNanoseconds = $day; RealtimeNanoseconds = $null } }; Message = 'no CLOCK_REALTIME'; Action = 'Leave -RealtimeNanoseconds out'
        }
        @{
            Name = 'to take a guest that has run back in time'; Id = 'ClockBackwards'; Category = 'InvalidOperation'
            Arguments = { @{ ClockNanoseconds = 5 } }; Message = 'would go back by'; Action = '-Force'
        }
    ) {
        BeforeEach {
            Set-KvmClock web01 $hour
            $null = Test-KvmVcpuTscOffset -Name web01
            $script:values = & $Arguments
        }

        It 'with an error, and nothing changes' {
            $observed = Invoke-Observed { Set-KvmClock web01 @values }
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] $Id $Category web01 $Message $Action
            $clock = (Get-KvmClock web01).ClockNanoseconds
            $clock | Should-BeGreaterThanOrEqual $hour
            $clock | Should-BeLessThan $day
        }

        It 'with -WhatIf too' {
            $observed = Invoke-Observed { Set-KvmClock web01 @values -WhatIf }
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] $Id $Category web01 $Message $Action
        }

        It 'for one VM, and goes on with the others' {
            $observed = Invoke-Observed { $values | ForEach-Object { [pscustomobject] $_ } | Set-KvmClock -VM web01, nobody }
            $observed.Errors.FullyQualifiedErrorId -replace ',.*' | Should-BeCollection $Id, 'VMNotFound'
        }
    }

    It 'takes a guest that has run back in time with -Force' {
        Set-KvmClock web01 $hour
        $null = Test-KvmVcpuTscOffset -Name web01
        Set-KvmClock web01 5 -Force
        (Get-KvmClock web01).ClockNanoseconds | Should-BeLessThan $hour
    }

    It 'refuses what is no number of nanoseconds: <_>' -ForEach '-1', '18446744073709551616', 'now' {
        { Set-KvmClock web01 $_ } | Should-Throw -FullyQualifiedErrorId 'CannotConvertArgument*'
    }

    It 'says with -WhatIf what would become of kvmclock, and changes nothing' {
        Set-KvmClock web01 $hour
        $observed = Invoke-Interactive "Set-KvmClock web01 $day -WhatIf -PassThru; Set-KvmClock web01 $day 1700000000123456789 -WhatIf"
        $observed.Output | Should-BeCollection @()
        $observed.Lines[0] | Should-MatchString "Set kvmclock from 3[6-9]\d\d\.\d{9} s to 86400\.000000000 s`" on target `"web01 \(process $PID\)"
        $observed.Lines[1] | Should-MatchString 'to 86400\.000000000 s plus the real time since 2023-11-14 22:13:20\.1234567Z"'
        (Get-KvmClock web01).ClockNanoseconds | Should-BeLessThan $day
    }

    It 'asks with -Confirm, and the clock is <Clock> when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Clock = 'left alone'; Set = $false }
        @{ Answer = 'Yes'; Clock = 'set'; Set = $true }
    ) {
        $observed = Invoke-Interactive "Set-KvmClock web01 $day -Confirm" $Answer
        $observed.Questions | Should-BeCollection -Count 1
        (Get-KvmClock web01).ClockNanoseconds -ge $day | Should-Be $Set
    }
}
