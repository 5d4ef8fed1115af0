Describe 'Get-KvmClock' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:vm = New-KvmVM web01 -VcpuCount 2
        $script:kHz = (Get-KvmTscFrequency web01)[0].TscKHz
    }

    AfterAll {
        Clear-VM
    }

    It 'gives the triple of a VM with the master clock on, and whose it is' {
        $clock = Get-KvmClock web01
        $clock.VMName | Should-Be 'web01'
        $clock.ProcessId | Should-Be $PID
        $clock.VMId | Should-Be $vm.VMId
        "$($clock.Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
        $clock.StoppedMicroseconds | Should-Be 0
    }

    It 'gives the CLOCK_REALTIME of the reading' {
        $before = ([datetime]::UtcNow - [datetime]::UnixEpoch).Ticks * 100
        $clock = Get-KvmClock web01
        $after = ([datetime]::UtcNow - [datetime]::UnixEpoch).Ticks * 100
        $clock.RealtimeNanoseconds | Should-BeGreaterThanOrEqual $before
        $clock.RealtimeNanoseconds | Should-BeLessThanOrEqual ($after + 100)
    }

    It 'gives kvmclock and host TSC of one instant: both advance alike' {
        $first = Get-KvmClock web01
        $second = Get-KvmClock web01
        $ticks = $second.HostTsc - $first.HostTsc
        $expected = [double] ($second.ClockNanoseconds - $first.ClockNanoseconds) * $kHz / 1e6
        $ticks | Should-BeGreaterThan 0
        [math]::Abs($ticks - $expected) | Should-BeLessThan (10 + $ticks * 1e-6)
    }

    It 'gives no host TSC and no CLOCK_REALTIME once vCPUs have run whose offsets differ' {
        Set-KvmVcpuTscOffset web01 5 -VcpuId 1 -Force
        $null = Test-KvmVcpuTscOffset -Name web01
        $clock = Get-KvmClock web01
        "$($clock.Flags)" | Should-Be 'None'
        $clock.HostTsc | Should-BeNull
        $clock.RealtimeNanoseconds | Should-BeNull
        $clock.ClockNanoseconds | Should-BeGreaterThan 0
    }
}
