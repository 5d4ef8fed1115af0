# How VMs and vCPUs are selected is the same for all cmdlets that take some.
BeforeDiscovery {
    $script:cmdlets = @(
        @{ Command = 'Get-KvmClock'; Values = @{} }
        @{ Command = 'Get-KvmVcpu'; Values = @{} }
        @{ Command = 'Get-KvmTscFrequency'; Values = @{} }
        @{ Command = 'Get-KvmVcpuTscOffset'; Values = @{} }
        @{ Command = 'Save-KvmTscState'; Values = @{} }
        @{ Command = 'Repair-KvmMasterClock'; Values = @{} }
        @{ Command = 'Test-KvmVcpuTscOffset'; Values = @{} }
        @{ Command = 'Set-KvmClock'; Values = @{ ClockNanoseconds = 5000000000; PassThru = $true; Force = $true } }
        @{ Command = 'Set-KvmTscFrequency'; Values = @{ PassThru = $true } }
        @{ Command = 'Set-KvmVcpuTscOffset'; Values = @{ OffsetTicks = 77; PassThru = $true; Force = $true } }
    )
    $script:ofVcpus = $cmdlets | Where-Object Command -NotIn 'Get-KvmClock', 'Repair-KvmMasterClock', 'Save-KvmTscState', 'Set-KvmClock'
    # One of each kind: of VMs, of vCPUs, and of vCPUs with a value.
    $script:kinds = $cmdlets | Where-Object Command -In 'Get-KvmClock', 'Get-KvmVcpuTscOffset', 'Set-KvmVcpuTscOffset'
}

Describe 'Selecting' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $null = New-KvmVM alpha -VcpuCount 4
        $null = 'beta', 'gamma' | New-KvmVM -VcpuCount 2
        $script:alpha, $script:gamma = Get-KvmVM alpha, gamma
        $script:removed = New-KvmVM removed
        Remove-KvmVM removed
        $script:frequency = @{ TscKHz = (Get-KvmHost).TscKHz }

        # Those that were selected, each once.
        function Get-SelectedName([object[]] $Output) {
            @($Output.VMName | Select-Object -Unique)
        }
    }

    AfterAll {
        Clear-VM
    }

    Context 'VMs for <Command>' -ForEach $cmdlets {
        BeforeAll {
            $script:splat = $Command -eq 'Set-KvmTscFrequency' ? $Values + $frequency : $Values
        }

        It 'takes names, wildcards, a process, objects, and objects that came back from a job' {
            Get-SelectedName (& $Command -Name gamma, ALPHA @splat) | Should-BeCollection gamma, alpha
            Get-SelectedName (& $Command -Name '[ab]*' @splat) | Should-BeCollection alpha, beta
            Get-SelectedName (& $Command -ProcessId $PID @splat) | Should-BeCollection alpha, beta, gamma
            Get-SelectedName (& $Command -VM $gamma, 'alpha' @splat) | Should-BeCollection gamma, alpha
            Get-SelectedName ((Copy-Deserialized $alpha), 'gamma' | & $Command @splat) | Should-BeCollection alpha, gamma
        }

        It 'reports what is not there, and goes on with the others' {
            $observed = Invoke-Observed { & $Command -Name alpha, nobody, gamma @splat }
            Get-SelectedName $observed.Output | Should-BeCollection alpha, gamma
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'

            $observed = Invoke-Observed { $alpha, $removed, $gamma | & $Command @splat }
            Get-SelectedName $observed.Output | Should-BeCollection alpha, gamma
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound removed 'removed' 'Get-KvmVM'
        }
    }

    Context 'VMs for a cmdlet such as <Command>' -ForEach $kinds {
        It 'takes any object that names a VM' {
            Get-SelectedName ([pscustomobject] @{ VMName = 'alpha' } | & $Command @Values) | Should-BeCollection @('alpha')
        }

        It 'does not take a VM for one of the same name in another process' {
            $observed = Invoke-Observed { & $Command -VM ([pscustomobject] @{ VMName = 'alpha'; ProcessId = 1; VMId = '1:5' }) @Values }
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound alpha 'alpha in process 1' 'Get-KvmVM'
        }

        It 'is silent about a wildcard without a match' {
            $observed = Invoke-Observed { & $Command -Name 'nobody*' @Values }
            $observed.Output | Should-BeCollection @()
            $observed.Errors | Should-BeCollection @()
        }

        It 'reports a process that runs none' {
            $observed = Invoke-Observed { & $Command -ProcessId 1 @Values }
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound 1 'Process 1 ' 'Get-KvmVM'
        }

        It 'ends at the first error when asked to' {
            $observed = Invoke-Observed { & $Command -Name nobody, alpha @Values -ErrorAction Stop }
            $observed.Output | Should-BeCollection @()
            Assert-KvmError $observed.Terminating VMNotFound ObjectNotFound nobody
        }

        It 'refuses an empty name, and what names no VM' {
            { & $Command -Name '' @Values } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
            { & $Command -VM 5 @Values } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentTransformationError*'
        }
    }

    Context 'vCPUs for <Command>' -ForEach $ofVcpus {
        BeforeAll {
            $script:splat = $Command -eq 'Set-KvmTscFrequency' ? $Values + $frequency : $Values
        }

        It 'takes all, those that are named, and those that objects name: each once, in their order' {
            (& $Command -Name alpha @splat).VcpuId | Should-BeCollection 0, 1, 2, 3
            (& $Command -Name alpha -VcpuId 3, 1, 3 @splat).VcpuId | Should-BeCollection 1, 3
            (Get-KvmVcpu alpha -VcpuId 2, 0 | & $Command @splat).VcpuId | Should-BeCollection 0, 2
        }

        It 'reports one that does not exist, and goes on with the other VMs' {
            $observed = Invoke-Observed { & $Command -Name beta, alpha -VcpuId 1, 3 @splat }
            $observed.Output.VMName | Should-BeCollection alpha, alpha
            $observed.Errors | Should-BeCollection -Count 1
            Assert-KvmError $observed.Errors[0] VcpuNotFound ObjectNotFound 'beta vCPU 3' 'It has 2: 0-1' 'Get-KvmVcpu'
            { & $Command -Name alpha -VcpuId -1 @splat } | Should-Throw -FullyQualifiedErrorId 'ParameterArgumentValidationError*'
        }
    }
}
