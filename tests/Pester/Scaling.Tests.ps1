# The cmdlets on a CPU that scales TSCs, such as the emulated Intel host's (./build.sh Intel), where everything takes ten times as long.
Describe 'A host that scales TSCs' -Tag Scaling {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:kHz = (Get-KvmHost).TscKHz
        $script:slower = [uint] [math]::Floor($kHz * 0.7)
        $script:faster = [uint] [math]::Floor($kHz * 1.5)

        # The multiplier that the kernel's debugfs shows for each vCPU.
        function Get-KernelRatio([string] $Name) {
            $directory = Get-KernelDirectory (Get-KvmVM $Name).VMId
            Get-ChildItem $directory -Filter 'vcpu*' -Name | Sort-Object | ForEach-Object { [uint64] [IO.File]::ReadAllText("$directory/$_/tsc-scaling-ratio") }
        }

        function Get-ExpectedRatio([uint] $TscKHz) {
            [uint64] ([bigint] $TscKHz * [bigint]::Pow(2, 48) / $kHz)
        }
    }

    AfterEach {
        Clear-VM
    }

    It 'says so' {
        $kvmHost = Get-KvmHost
        $kvmHost.HasTscScaling | Should-BeTrue
        $kvmHost.TscScalingFractionBits | Should-Be 48
        $kvmHost.KvmModule | Should-Be kvm_intel
    }

    It 'passes the kernel''s own test with a guest that is slower, and one that is faster' {
        foreach ($frequency in $slower, $faster) {
            $results = Test-KvmVcpuTscOffset -TscKHz $frequency -OffsetTicks 0, ([long]::MinValue) -VcpuCount 2
            $results | Should-All { $_.Passed }
        }
    }

    It 'gives a VM the frequency it is to have, by the ratio that debugfs shows' {
        $null = New-KvmVM slow -VcpuCount 2 -TscKHz $slower
        Set-KvmTscFrequency slow -TscKHz $faster
        $frequencies = Get-KvmTscFrequency slow
        $frequencies.TscKHz | Should-BeCollection $faster, $faster
        $frequencies.ScalingRatio | Should-BeCollection (Get-ExpectedRatio $faster), (Get-ExpectedRatio $faster)
        Get-KernelRatio slow | Should-BeCollection $frequencies.ScalingRatio
        $frequencies | Should-All { $_.HostTscKHz -eq $kHz -and $_.ScalingFractionBits -eq 48 -and [math]::Abs($_.UnscaledPpm) -lt 0.001 }
    }

    It 'migrates a guest to a VM of another frequency to the tick' {
        $null = New-KvmVM web01 -VcpuCount 2 -TscKHz $faster
        Set-KvmVcpuTscOffset web01 5000000000
        $null = New-KvmVM web02 -VcpuCount 2 -TscKHz $slower
        $result = Invoke-KvmTscMigration web01 web02 -Confirm:$false
        $result.ResidualTicks | Should-Be 0
        $result.Vcpus.NewTscKHz | Should-BeCollection $faster, $faster
        Get-KernelOffset web02 | Should-BeCollection (Get-KernelOffset web01)
        Get-KernelRatio web02 | Should-BeCollection (Get-KernelRatio web01)
        Test-KvmVcpuTscOffset web02 | Should-All { $_.Passed }
    }

    It 'restores what was exported, and warns that the guest sees another kvmclock than KVM tells of' {
        $null = New-KvmVM web01 -TscKHz $slower
        $state = Save-KvmTscState web01
        $file = Join-Path $TestDrive web01.json
        $state | Export-KvmTscState -Path $file
        $null = New-KvmVM web02
        Start-Sleep 1
        $test = Import-KvmTscState $file | Test-KvmTscMigration -Destination web02
        ($test.Findings | Where-Object Check -EQ ScaledClock).Severity | Should-Be Warning
        $result = Import-KvmTscState $file | Restore-KvmTscState web02
        $result.ResidualTicks | Should-Be 0
        $result.ClockErrorBoundNanoseconds | Should-BeGreaterThan $result.ErrorBoundNanoseconds
        (Get-KvmTscFrequency web02).TscKHz | Should-Be $slower
    }
}
