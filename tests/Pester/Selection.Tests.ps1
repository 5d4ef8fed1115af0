# How VMs and vCPUs are selected is the same for all cmdlets that take some.
BeforeDiscovery {
    $cmdlets = @(
        @{ Command = 'Get-KvmClock'; Value = { @{} } }
        @{ Command = 'Get-KvmVcpu'; Value = { @{} } }
        @{ Command = 'Get-KvmTscFrequency'; Value = { @{} } }
        @{ Command = 'Get-KvmVcpuTscOffset'; Value = { @{} } }
        @{ Command = 'Save-KvmTscState'; Value = { @{} } }
        @{ Command = 'Test-KvmVcpuTscOffset'; Value = { @{} } }
        @{ Command = 'Set-KvmClock'; Value = { @{ ClockNanoseconds = 5000000000; PassThru = $true; Force = $true } } }
        @{ Command = 'Set-KvmTscFrequency'; Value = { @{ TscKHz = (Get-KvmHost).TscKHz; PassThru = $true } } }
        @{ Command = 'Set-KvmVcpuTscOffset'; Value = { @{ OffsetTicks = 77; PassThru = $true; Force = $true } } }
    )
    $script:takesVcpus = $cmdlets | Where-Object Command -NotIn 'Get-KvmClock', 'Save-KvmTscState', 'Set-KvmClock'
}

Describe 'Selecting VMs for <Command>' -Tag Kvm -ForEach $cmdlets {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:alpha, $null, $script:gamma = 'alpha', 'beta', 'gamma' | New-KvmVM
        $script:value = & $Value
    }

    AfterAll {
        Clear-VM
    }

    It 'takes a name, whatever its case' {
        (& $Command -Name ALPHA @value).VMName | Should-Be 'alpha'
    }

    It 'takes several names' {
        (& $Command -Name gamma, alpha @value).VMName | Should-BeCollection gamma, alpha
    }

    It 'takes wildcards' {
        (& $Command -Name '[ab]*' @value).VMName | Should-BeCollection alpha, beta
    }

    It 'is silent about a wildcard without a match' {
        $observed = Invoke-Observed { & $Command -Name 'nobody*' @value }
        $observed.Output | Should-BeCollection @()
        $observed.Errors | Should-BeCollection @()
    }

    It 'takes the process that runs them' {
        (& $Command -ProcessId $PID @value).VMName | Should-BeCollection alpha, beta, gamma
    }

    It 'reports a process that runs none' {
        $observed = Invoke-Observed { & $Command -ProcessId 1 @value }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound 1 'Process 1 ' 'Get-KvmVM'
    }

    It 'takes <Form>' -ForEach @(
        @{ Form = 'an object'; VM = { $alpha } }
        @{ Form = 'a name as an object'; VM = { 'alpha' } }
        @{ Form = 'an object that came back from a job'; VM = { Copy-Deserialized $alpha } }
        @{ Form = 'any object that names a VM'; VM = { [pscustomobject] @{ VMName = 'alpha' } } }
    ) {
        (& $Command -VM (& $VM) @value).VMName | Should-Be 'alpha'
        (& $VM | & $Command @value).VMName | Should-Be 'alpha'
    }

    It 'takes several objects' {
        (& $Command -VM $alpha, $gamma @value).VMName | Should-BeCollection alpha, gamma
        (Get-KvmVM alpha, gamma | & $Command @value).VMName | Should-BeCollection alpha, gamma
    }

    It 'reports an unknown name and goes on with the others' {
        $observed = Invoke-Observed { & $Command -Name alpha, nobody, gamma @value }
        $observed.Output.VMName | Should-BeCollection alpha, gamma
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
        $observed.Terminating | Should-BeNull
    }

    It 'reports a removed VM and goes on with the others' {
        $removed = New-KvmVM removed
        Remove-KvmVM removed
        $observed = Invoke-Observed { $alpha, $removed, $gamma | & $Command @value }
        $observed.Output.VMName | Should-BeCollection alpha, gamma
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound removed 'removed' 'Get-KvmVM'
    }

    It 'does not take a VM for one of the same name in another process' {
        $elsewhere = [pscustomobject] @{ VMName = 'alpha'; ProcessId = 1; VMId = '1:5' }
        $observed = Invoke-Observed { & $Command -VM $elsewhere @value }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound alpha 'alpha in process 1' 'Get-KvmVM'
    }

    It 'ends at the first error when asked to' {
        $observed = Invoke-Observed { & $Command -Name nobody, alpha @value -ErrorAction Stop }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Terminating VMNotFound ObjectNotFound nobody
    }

    It 'refuses an empty name' {
        { & $Command -Name '' @value } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
    }
}

Describe 'Selecting vCPUs for <Command>' -Tag Kvm -ForEach $takesVcpus {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $null = New-KvmVM alpha -VcpuCount 4
        $null = New-KvmVM beta -VcpuCount 2
        $script:value = & $Value
    }

    AfterAll {
        Clear-VM
    }

    It 'takes all when none are named' {
        (& $Command -Name alpha @value).VcpuId | Should-BeCollection 0, 1, 2, 3
    }

    It 'takes those that are named, once, in their order' {
        (& $Command -Name alpha -VcpuId 3, 1, 3 @value).VcpuId | Should-BeCollection 1, 3
    }

    It 'takes objects that name vCPUs, and works on each VM once' {
        (Get-KvmVcpu alpha -VcpuId 0, 2 | & $Command @value).VcpuId | Should-BeCollection 0, 2
    }

    It 'reports a vCPU that does not exist, and goes on with the other VMs' {
        $observed = Invoke-Observed { & $Command -Name beta, alpha -VcpuId 1, 3 @value }
        $observed.Output.VMName | Should-BeCollection alpha, alpha
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VcpuNotFound ObjectNotFound 'beta vCPU 3' 'It has 2: 0-1' 'Get-KvmVcpu'
    }

    It 'refuses a negative id' {
        { & $Command -Name alpha -VcpuId -1 @value } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
    }
}
