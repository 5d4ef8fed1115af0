Describe 'New-KvmVM' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
    }

    AfterEach {
        Clear-VM
    }

    It 'creates a VM that the kernel knows' {
        $vm = New-KvmVM web01 -VcpuCount 3
        $vm.VMName | Should-Be 'web01'
        $vm.VcpuCount | Should-Be 3
        Get-ChildItem (Get-KernelDirectory $vm.VMId) -Filter 'vcpu*' -Name | Sort-Object | Should-BeCollection vcpu0, vcpu1, vcpu2
        (Get-KvmVM).VMId | Should-Be $vm.VMId
    }

    It 'gives one vCPU when none are asked for' {
        (New-KvmVM).VcpuCount | Should-Be 1
    }

    It 'takes the next free name when none is given' {
        (New-KvmVM).VMName | Should-Be 'vm1'
        $null = New-KvmVM VM2
        (New-KvmVM).VMName | Should-Be 'vm3'
        Remove-KvmVM vm1
        (New-KvmVM).VMName | Should-Be 'vm1'
    }

    It 'takes names from the pipeline' {
        ('web01', 'web02' | New-KvmVM -VcpuCount 2).VMName | Should-BeCollection web01, web02
    }

    It 'starts kvmclock at zero, readable as that of a VM that has run' {
        $watch = [Diagnostics.Stopwatch]::StartNew()
        $null = New-KvmVM web01
        $clock = Get-KvmClock web01
        $clock.ClockNanoseconds | Should-BeLessThan ($watch.Elapsed.TotalSeconds * 1e9)
        "$($clock.Flags)" | Should-Be 'TscStable, Realtime, HostTsc'
    }

    It 'refuses a name that is taken, and goes on with the others' {
        $null = New-KvmVM web01
        $observed = Invoke-Observed { 'a', 'WEB01', 'b' | New-KvmVM }
        $observed.Output.VMName | Should-BeCollection a, b
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VMNameTaken ResourceExists WEB01 'WEB01' 'Remove-KvmVM WEB01'
        Get-KernelVMCount | Should-Be 3
    }

    It 'refuses a name with the wildcard <_>' -ForEach '*', '?', '[', ']' {
        { New-KvmVM "web$_" } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
        Get-KernelVMCount | Should-Be 0
    }

    It 'refuses <_> vCPUs' -ForEach 0, -1 {
        { New-KvmVM web01 -VcpuCount $_ } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
    }

    It 'gives as many vCPUs as the kernel has, and none more' {
        $maximum = (Get-KvmHost).MaximumVcpus
        (New-KvmVM big -VcpuCount $maximum).VcpuCount | Should-Be $maximum
        (Get-KvmVcpu big)[-1].VcpuId | Should-Be ($maximum - 1)
        Remove-KvmVM big

        $observed = Invoke-Observed { New-KvmVM bigger -VcpuCount ($maximum + 1) }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] VcpuCountOutOfRange InvalidArgument bigger "$($maximum + 1) vCPUs" "1 to $maximum"
        Get-KernelVMCount | Should-Be 0
    }

    It 'gives all vCPUs the frequency that is asked for' {
        $kHz = (Get-KvmHost).TscKHz + 100
        $null = New-KvmVM web01 -VcpuCount 2 -TscKHz $kHz
        (Get-KvmTscFrequency web01).TscKHz | Should-BeCollection $kHz, $kHz
    }

    It 'gives half the host''s frequency where the CPU scales, and refuses it elsewhere' {
        $hostInformation = Get-KvmHost
        $half = [uint] [math]::Floor($hostInformation.TscKHz / 2)
        $observed = Invoke-Observed { New-KvmVM web01 -TscKHz $half }
        if ($hostInformation.HasTscScaling) {
            (Get-KvmTscFrequency web01).TscKHz | Should-Be $half
        }
        else {
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Errors[0] FrequencyUnsupported InvalidArgument web01 "$half kHz is slower than" 'TSC scaling'
            Get-KernelVMCount | Should-Be 0
        }
    }

    It 'creates nothing with -WhatIf' {
        $observed = Invoke-Interactive 'New-KvmVM web01 -VcpuCount 2 -TscKHz 1000 -WhatIf; New-KvmVM -WhatIf'
        $observed.Output | Should-BeCollection @()
        $observed.Lines[0] | Should-MatchString 'Create a VM of this process with 2 vCPU\(s\) at 1000 kHz" on target "web01"'
        $observed.Lines[1] | Should-MatchString 'with 1 vCPU\(s\)" on target "the next free name"'
        Get-KernelVMCount | Should-Be 0
    }

    It 'asks with -Confirm, and creates nothing when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Created = 0 }
        @{ Answer = 'Yes'; Created = 1 }
    ) {
        $observed = Invoke-Interactive 'New-KvmVM web01 -Confirm' $Answer
        $observed.Questions | Should-BeCollection -Count 1
        Get-KernelVMCount | Should-Be $Created
    }
}
