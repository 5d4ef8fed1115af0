# Two hosts, each with a TSC and a clock of its own: lab/kvmlab exec --hosts h1,h2. These tests run on the first. A VM of a session is one of
# the process at its other end.
Describe 'Invoke-KvmTscMigration between two hosts' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:manifest = (Get-Module KvmTsc).Path -replace '[^/]+$', 'KvmTsc.psd1'

        function Open-Session {
            $session = New-PSSession -HostName h2
            Invoke-Command $session { Import-Module $using:manifest } | Out-Null
            $session
        }

        function Get-RemoteOffset($Session, [string] $Name) {
            Invoke-Command $Session { (Get-KvmVcpuTscOffset $using:Name).OffsetTicks }
        }

        # By how many ns the clock of h2 is ahead of this host's, and how far off that may be: the fastest of some answers. NTP, which takes a
        # round trip for symmetric, is off by 25 ms here at times.
        function Measure-RemoteClock {
            1..8 | ForEach-Object {
                $asked = [datetime]::UtcNow
                $there = Invoke-Command $session { [datetime]::UtcNow }
                $width = [datetime]::UtcNow - $asked
                @{ Ahead = ($there - $asked - $width / 2).Ticks * 100; Uncertainty = $width.Ticks * 50 }
            } | Sort-Object { $_.Uncertainty } | Select-Object -First 1
        }

        # adjtimex(ADJ_STATUS | ADJ_MAXERROR): synchronised, to 1 ms
        $script:claim = "syscall(159, my `$timex = pack('L x4 q4 l x164', 0x1C, 0, 0, 1000, 0, 0));"

        $script:session = Open-Session
        $script:kHz = (Get-KvmHost).TscKHz
        $null = New-KvmVM here -VcpuCount 2
        Set-KvmVcpuTscOffset here 1000000000000
        Set-KvmClock here 86400000000000
        Invoke-Command $session { $null = 'there', 'there-too' | New-KvmVM -VcpuCount 2 }
    }

    AfterAll {
        Clear-VM
        Get-PSSession | Remove-PSSession
        # The clock of h2 is kept again, as lab/network did it.
        ssh h2 'chronyc shutdown; chronyd -u root -f /run/kvmlab/chrony.conf -l /run/kvmlab/chrony.log && chronyc waitsync 0 0.001 100 0.2' 2>&1 | Out-Null
    }

    BeforeEach {
        # How far one VM's kvmclock is from another's on the other host, in ns, by CLOCK_REALTIME of both.
        function Get-Distance($From, $To) {
            [double] ([decimal] $To.ClockNanoseconds - $From.ClockNanoseconds) - [double] ([decimal] $To.RealtimeNanoseconds - $From.RealtimeNanoseconds)
        }
    }

    It 'migrates a VM of this host to the other, within the bound' {
        $result = Invoke-KvmTscMigration here there -DestinationSession $session -Confirm:$false
        "$($result.MeasuredBy), $($result.SourceVMName), $($result.VMName)" | Should-Be 'Realtime, here, there'
        [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        [math]::Abs($result.ClockResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds

        # The two kvmclocks as both hosts' kernels give them, and the guest TSC that goes with each.
        $source = Get-KvmClock here
        $destination = Invoke-Command $session { Get-KvmClock there }
        $offset = (Get-RemoteOffset $session there)[0]
        [math]::Abs((Get-Distance $source $destination)) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        $clocks = [double] ([decimal] $destination.ClockNanoseconds - $source.ClockNanoseconds)
        $ticks = [double] ([decimal] $destination.HostTsc + $offset - $source.HostTsc - 1000000000000)
        [math]::Abs($ticks * 1e6 / $kHz - $clocks) | Should-BeLessThanOrEqual ($result.ErrorBoundNanoseconds + 1000)
        'there: downtime {0:n3} s, TSC residual {1:n0} ns, kvmclock residual {2:n0} ns, bound {3:n0} ns' -f ($result.DowntimeNanoseconds / 1e9),
            $result.ResidualNanoseconds, $result.ClockResidualNanoseconds, $result.ErrorBoundNanoseconds | Write-Information -InformationAction Continue
    }

    It 'migrates a VM of the other host to this one' {
        $null = New-KvmVM back -VcpuCount 2
        $result = Invoke-KvmTscMigration there back -SourceSession $session -Confirm:$false
        [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        $source = Invoke-Command $session { Get-KvmClock there }
        [math]::Abs((Get-Distance $source (Get-KvmClock back))) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
    }

    It 'migrates from one VM of the other host to another there, to the tick' {
        $result = Invoke-KvmTscMigration there there-too -SourceSession $session -DestinationSession $session -Confirm:$false
        "$($result.MeasuredBy), $($result.ResidualTicks)" | Should-Be 'HostTsc, 0'
        Get-RemoteOffset $session there-too | Should-BeCollection (Get-RemoteOffset $session there)
    }

    It 'restores a state from a file as the live path does, to the tick' {
        $state = Save-KvmTscState here
        $state | Export-KvmTscState $TestDrive/here.json
        Copy-Item $TestDrive/here.json -Destination /tmp/here.json -ToSession $session

        # What the live path brings is kept there, on its way to the cmdlet.
        Invoke-Command $session {
            function global:Restore-KvmTscState($VM, $State, [switch] $Force) {
                Set-Variable Arrived $State -Scope Global
                KvmTsc\Restore-KvmTscState $VM $State -Force:$Force -Confirm:$false
            }
        }
        $live = Invoke-KvmTscMigration $state there -DestinationSession $session -Force
        $live.VMName | Should-Be there
        $found = Invoke-Command $session {
            Remove-Item Function:Restore-KvmTscState
            $Arrived | Export-KvmTscState /tmp/live.json -Force
            $now = Get-KvmClock there
            foreach ($document in '/tmp/live.json', '/tmp/here.json') {
                $state = Import-KvmTscState $document
                $source = [KvmTsc.Clocks.KvmClock]::new('', 0, '', $state.ClockNanoseconds, $state.RealtimeNanoseconds, $state.HostTsc, 'Realtime, HostTsc', 0)
                foreach ($vcpu in $state.Vcpus) {
                    $frequency = [KvmTsc.Clocks.KvmTscFrequency]::new('', 0, '', $vcpu.VcpuId, $vcpu.TscKHz, $state.Host.TscKHz, 0, 0, 0)
                    $vcpu | Resolve-KvmTscOffset $source $now $frequency | ForEach-Object OffsetTicks
                }
            }
            [IO.File]::ReadAllText('/tmp/live.json')
        }
        $found[-1] | Should-Be ([IO.File]::ReadAllText("$TestDrive/here.json"))
        $found[0, 1] | Should-BeCollection $found[2, 3]

        # The same destination, read some moments later.
        $difference = ($live.Vcpus[0].NewOffsetTicks - $found[0]) * 1e6 / $kHz
        [math]::Abs($difference) | Should-BeLessThanOrEqual $live.ErrorBoundNanoseconds
    }

    It 'says what it would do with -WhatIf, and does nothing' {
        $before = Get-RemoteOffset $session there
        Invoke-KvmTscMigration here there -DestinationSession $session -WhatIf | Should-BeNull
        Get-RemoteOffset $session there | Should-BeCollection $before
    }

    It 'gives the error of the other host: <Id>' -ForEach @(
        @{ Id = 'VMNotFound'; Source = 'here'; Destination = 'nobody' }
        @{ Id = 'VcpuMismatch'; Source = 'here'; Destination = 'small' }
    ) {
        Invoke-Command $session { if (-not (Get-KvmVM small -ErrorAction Ignore)) { $null = New-KvmVM small } }
        $failed = { Invoke-KvmTscMigration $Source $Destination -DestinationSession $session -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString "$Id,*"
        $failed.Exception.Message | Should-BeLikeString '*h2*'
        $failed.ErrorDetails.RecommendedAction | Should-NotBeEmptyString
    }

    It 'says that a session was lost, and that nothing was changed' {
        $lost = Open-Session
        Invoke-Command $lost { $null = New-KvmVM there -VcpuCount 2 }
        $id = Invoke-Command $lost { $PID }
        ssh h2 "kill -9 $id"
        $before = Get-RemoteOffset $session there
        $failed = { Invoke-KvmTscMigration here there -DestinationSession $lost -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'SessionLost,*'
        Get-RemoteOffset $session there | Should-BeCollection $before
    }

    # While nobody keeps a clock, Linux widens what it claims by 500 ppm: one that is wrong by 40 ppm stays within that.
    It 'stays within the bound, which grows, if the other host has a clock that is free and 40 ppm too fast' {
        ssh h2 "chronyc shutdown; busybox adjtimex -t 10000 -f $(40 * 65536)" | Out-Null
        $begun = [Diagnostics.Stopwatch]::StartNew()
        $there = Invoke-Command $session { Get-KvmHost }
        [math]::Round($there.SlewPpm) | Should-Be 40
        $result = Invoke-KvmTscMigration here there -DestinationSession $session -Force
        $wrong = Measure-RemoteClock
        $later = Invoke-Command $session { Get-KvmHost }
        $later.ClockSynchronized | Should-BeTrue
        ($later.MaxErrorMicroseconds - $there.MaxErrorMicroseconds) * 1000 | Should-BeGreaterThan (40 * 1000 * [math]::Floor($begun.Elapsed.TotalSeconds - 2))
        $result.ErrorBoundNanoseconds | Should-BeGreaterThan ($there.MaxErrorMicroseconds * 1000)

        # By the clocks' own words, and by asking both.
        [math]::Abs($result.ResidualNanoseconds) | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        $distance = Get-Distance (Get-KvmClock here) (Invoke-Command $session { Get-KvmClock there })
        [math]::Abs($distance + $wrong.Ahead) - $wrong.Uncertainty | Should-BeLessThanOrEqual $result.ErrorBoundNanoseconds
        '40 ppm too fast: h2 ahead by {0:n0} ns, to {1:n0} ns, after {2:n0} s; residual {3:n0} ns, bound {4:n0} ns; h2 claims {5:n0} us, then {6:n0} us' -f
            $wrong.Ahead, $wrong.Uncertainty, $begun.Elapsed.TotalSeconds, $result.ResidualNanoseconds, $result.ErrorBoundNanoseconds,
            $there.MaxErrorMicroseconds, $later.MaxErrorMicroseconds |
            Write-Information -InformationAction Continue
    }

    It 'catches a clock of the other host that was stepped by 5 s and is synchronised no more' {
        ssh h2 'chronyc shutdown; date -s @$(($(date +%s) + 5))' | Out-Null
        $failed = { Invoke-KvmTscMigration here there -DestinationSession $session -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'ClockUnsynchronized,*'
    }

    It 'catches one that claims to be right all the same, by asking both for the time' {
        $claim | ssh h2 perl
        (Invoke-Command $session { Get-KvmHost }).ClockSynchronized | Should-BeTrue
        $before = Get-RemoteOffset $session there
        $failed = { Invoke-KvmTscMigration here there -DestinationSession $session -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'ClocksDisagree,*'
        "$failed" | Write-Information -InformationAction Continue
        "$failed" -match 'CLOCK_REALTIME of h2 is ([\d,.]+) ms ahead of that of h1, measured to ([\d,.]+) ms' | Should-BeTrue
        [math]::Abs([double] $Matches[1] - 5000) | Should-BeLessThan 2000 # it was set to whole seconds, some time ago
        $failed.ErrorDetails.RecommendedAction | Should-NotBeEmptyString
        Get-RemoteOffset $session there | Should-BeCollection $before
        $finding = (Test-KvmTscMigration here there -DestinationSession $session).Findings.Where({ $_.Check -eq 'ClocksDisagree' })
        "$($finding.Severity), $($finding.Side)" | Should-Be 'Error, Both'
        $finding.Evidence | Should-MatchString 'CLOCK_REALTIME of h2 is [\d,.]+ ms ahead of that of h1'
        $finding.Action | Should-NotBeEmptyString

        # By force it is done, and the guest is as far ahead as the clock.
        $result = Invoke-KvmTscMigration here there -DestinationSession $session -Force -WarningVariable warned
        "$warned" | Should-MatchString 'CLOCK_REALTIME of h2 is [\d,.]+ ms ahead'
        $result.VMName | Should-Be there
    }
}
