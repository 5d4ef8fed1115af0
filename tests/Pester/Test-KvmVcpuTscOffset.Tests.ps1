Describe 'Test-KvmVcpuTscOffset' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kernelCases = 0, 180000000000, -180000000000
    }

    AfterEach {
        Clear-VM
    }

    It 'passes the kernel''s own cases in a guest of its own' {
        $results = Test-KvmVcpuTscOffset
        $results.OffsetTicks | Should-BeCollection $kernelCases
        $results | Should-All { $_ -is [KvmTsc.SelfTest.KvmTscOffsetTest] -and $_.Passed -and $null -eq $_.Reason }
    }

    It 'shows what it judges by: what the guest saw, between the host''s TSC plus offset before and after' {
        $results = Test-KvmVcpuTscOffset
        # How far one value of the counter lies after another, which wraps at 2^64.
        function Get-Distance([bigint] $From, [bigint] $To) {
            ($To - $From + [bigint]::Pow(2, 64)) % [bigint]::Pow(2, 64)
        }
        foreach ($result in $results) {
            $inside = Get-Distance $result.EarliestGuestTsc $result.ObservedGuestTsc
            $inside | Should-BeGreaterThan 0
            $inside | Should-BeLessThan (Get-Distance $result.EarliestGuestTsc $result.LatestGuestTsc)
        }

        # Less its offset, what the guests saw is one host TSC that goes on.
        $hostTsc = $results | ForEach-Object { Get-Distance $_.OffsetTicks ([bigint] $_.ObservedGuestTsc) }
        $hostTsc[1] | Should-BeGreaterThan $hostTsc[0]
        $hostTsc[2] | Should-BeGreaterThan $hostTsc[1]
        $hostTsc[2] | Should-BeLessThan ([bigint]::Pow(2, 63))
    }

    It 'takes further offsets, each once, and any number of vCPUs' {
        $results = Test-KvmVcpuTscOffset -OffsetTicks 5, 0, ([long]::MaxValue), ([long]::MinValue) -VcpuCount 3
        $results | Should-BeCollection -Count 18
        $results.OffsetTicks | Select-Object -Unique | Should-BeCollection (0, 180000000000, -180000000000, 5, [long]::MaxValue, [long]::MinValue)
        $results[0..2].VcpuId | Should-BeCollection 0, 1, 2
        $results | Should-All { $_.Passed }
    }

    It 'takes a frequency' {
        Test-KvmVcpuTscOffset -TscKHz ((Get-KvmHost).TscKHz + 100) | Should-All { $_.Passed }
    }

    It 'leaves no VM behind' {
        $null = Test-KvmVcpuTscOffset -VcpuCount 2
        Get-KernelVMCount | Should-Be 0
        $null = Test-KvmVcpuTscOffset | Select-Object -First 1
        Get-KernelVMCount | Should-Be 0
    }

    It 'asks the guests of VMs that are there, at the offsets that they have' {
        $null = 'web01', 'web02' | New-KvmVM -VcpuCount 2
        Set-KvmVcpuTscOffset web02 4000000000000
        $results = Get-KvmVM web0* | Test-KvmVcpuTscOffset
        $results.VMName | Should-BeCollection web01, web01, web02, web02
        $results.VcpuId | Should-BeCollection 0, 1, 0, 1
        $results.OffsetTicks | Should-BeCollection (@(Get-KernelOffset web01) + (Get-KernelOffset web02))
        $results | Should-All { $_.Passed }
        $results[2].ObservedGuestTsc | Should-BeGreaterThan 4000000000000
        (Test-KvmVcpuTscOffset -Name web02 -VcpuId 1).VcpuId | Should-Be 1
    }

    It 'refuses <Count> vCPUs' -ForEach @(
        @{ Count = 0; Id = 'ParameterArgumentValidationError'; Excess = 0 }
        @{ Count = 'more than the kernel has'; Id = 'VcpuCountOutOfRange'; Excess = 1 }
    ) {
        $number = $Excess -eq 0 ? 0 : (Get-KvmHost).MaximumVcpus + $Excess
        { Test-KvmVcpuTscOffset -VcpuCount $number -ErrorAction Stop } | Should-Throw -FullyQualifiedErrorId "$Id*"
        Get-KernelVMCount | Should-Be 0
    }

    It 'refuses an offset beyond 64 bits' {
        { Test-KvmVcpuTscOffset -OffsetTicks 9223372036854775808 } | Should-Throw -FullyQualifiedErrorId 'CannotConvertArgument*'
    }
}
