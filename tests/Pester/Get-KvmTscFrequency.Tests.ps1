Describe 'Get-KvmTscFrequency' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kvmHost = Get-KvmHost
        $script:vm = New-KvmVM web01 -VcpuCount 2
        $null = New-KvmVM fast -TscKHz ($kvmHost.TscKHz + 100)
    }

    AfterAll {
        Clear-VM
    }

    It 'tells each vCPU''s frequency, the host''s, and whose it is' {
        $frequencies = Get-KvmTscFrequency web01
        $frequencies.VcpuId | Should-BeCollection 0, 1
        $frequencies | Should-All {
            $_.TscKHz -eq $kvmHost.TscKHz -and $_.HostTscKHz -eq $kvmHost.TscKHz -and $_.UnscaledPpm -eq 0 -and
            $_.VMName -eq 'web01' -and $_.VMId -eq $vm.VMId -and $_.ProcessId -eq $PID -and $_.StoppedMicroseconds -eq 0
        }
    }

    It 'tells by how much a guest that KVM does not scale runs beside its frequency' {
        $frequency = Get-KvmTscFrequency fast
        $frequency.TscKHz | Should-Be ($kvmHost.TscKHz + 100)
        $frequency.UnscaledPpm | Should-BeLessThan 0
        [math]::Abs($frequency.UnscaledPpm + 100 / $frequency.TscKHz * 1e6) | Should-BeLessThan 0.001
    }

    It 'tells no ratio where the CPU has no scaling, and one to one where it has' {
        $frequency = Get-KvmTscFrequency web01 -VcpuId 0
        $frequency.ScalingFractionBits | Should-Be $kvmHost.TscScalingFractionBits
        $frequency.ScalingRatio | Should-Be ($kvmHost.HasTscScaling ? [math]::Pow(2, $kvmHost.TscScalingFractionBits) : 0)
    }
}
