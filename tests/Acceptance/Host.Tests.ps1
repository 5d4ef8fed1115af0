BeforeAll {
    . "$PSScriptRoot/Common.ps1"
}

Describe 'This host' {
    BeforeAll {
        $script:kvmHost = try { Get-KvmHost } catch { $null }
    }

    It 'has a KVM that this user may ask' {
        Get-KvmHost | Should -Not -BeNullOrEmpty
    }

    It 'can migrate clocks' {
        Skip-For ($kvmHost ? '' : 'there is no KVM to ask')
        $kvmHost.HasTscOffset | Should -BeTrue -Because 'they are moved by KVM_VCPU_TSC_OFFSET, which came in Linux 5.16, and which kvm_pvm ignores'
        $kvmHost.ClockSource | Should -Be 'tsc' -Because 'KVM has a master clock on no other'
        $kvmHost.CanMigrateTsc | Should -BeTrue
    }

    It 'scales TSCs: a guest keeps its frequency on a host of another one' {
        Skip-For ($kvmHost ? '' : 'there is no KVM to ask')
        Skip-For ($kvmHost.HasTscScaling ? '' : 'its CPU does not; a guest can come from a host of the same frequency only')
        $kvmHost.TscScalingFractionBits | Should -BeIn 32, 48
    }

    It 'has its clock synchronised, as migrations between hosts take' {
        Skip-For ($kvmHost ? '' : 'there is no KVM to ask')
        Skip-For ($kvmHost.ClockSynchronized ? '' : 'nobody keeps its CLOCK_REALTIME, or chrony does and has no rtcsync in its configuration')
        $kvmHost.MaxErrorMicroseconds | Should -BeLessThan 16000000
    }

    It 'shows TSC offsets in debugfs, where they are read without a stop' {
        Skip-For ($kvmHost ? '' : 'there is no KVM to ask')
        Skip-For ($kvmHost.CanReadDebugfs ? '' : 'debugfs is not mounted, or this user is not root')
        Test-Path /sys/kernel/debug/kvm | Should -BeTrue
    }
}

Describe 'A guest that reads its own TSC' {
    It 'finds it where its offset says, on each vCPU' {
        Skip-For (Get-Lack)
        $results = Test-KvmVcpuTscOffset -VcpuCount 2 -OffsetTicks 1, -1, ([long]::MaxValue)
        $results.Count | Should -Be 12
        $results | Where-Object { -not $_.Passed } | Out-String | Should -BeNullOrEmpty
    }
}
