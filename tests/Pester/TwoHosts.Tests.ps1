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

    It 'restores a state from a file as the live path does' {
        $state = Save-KvmTscState here
        $state | Export-KvmTscState $TestDrive/here.json
        $live = Invoke-KvmTscMigration $state there -DestinationSession $session -Force
        $byFile = Import-KvmTscState $TestDrive/here.json | ForEach-Object { Invoke-KvmTscMigration $_ there-too -DestinationSession $session -Force }
        $bound = $live.ErrorBoundNanoseconds + $byFile.ErrorBoundNanoseconds
        $difference = ($live.Vcpus[0].NewOffsetTicks - $byFile.Vcpus[0].NewOffsetTicks) * 1e6 / $kHz
        [math]::Abs($difference) | Should-BeLessThanOrEqual $bound
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

    It 'catches a clock of the other host that was stepped by 5 s and is synchronised no more' {
        ssh h2 'chronyc shutdown; date -s @$(($(date +%s) + 5))' | Out-Null
        $failed = { Invoke-KvmTscMigration here there -DestinationSession $session -Confirm:$false -ErrorAction Stop } | Should-Throw
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'ClockUnsynchronized,*'
    }
}
