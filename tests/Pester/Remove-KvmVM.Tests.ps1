Describe 'Remove-KvmVM' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
    }

    BeforeEach {
        $web01, $web02, $db = 'web01', 'web02', 'db' | New-KvmVM
    }

    AfterEach {
        Clear-VM
    }

    It 'removes a VM, in the kernel too' {
        $directory = Get-KernelDirectory $web01.VMId
        Remove-KvmVM web01 | Should-BeNull
        (Get-KvmVM).VMName | Should-BeCollection web02, db
        Get-KernelVMCount | Should-Be 2
        Test-Path $directory | Should-BeFalse
    }

    It 'leaves the name free' {
        Remove-KvmVM web01
        (New-KvmVM web01 -VcpuCount 2).VcpuCount | Should-Be 2
    }

    It 'takes wildcards' {
        Remove-KvmVM web*
        (Get-KvmVM).VMName | Should-Be 'db'
    }

    It 'takes a process' {
        Remove-KvmVM -ProcessId $PID
        Get-KernelVMCount | Should-Be 0
    }

    It 'takes objects, also those that came back from a job' {
        $db, (Copy-Deserialized $web02) | Remove-KvmVM
        Remove-KvmVM -VM $web01
        Get-KernelVMCount | Should-Be 0
    }

    It 'reports a VM that is gone and removes the others' {
        Remove-KvmVM web02
        $observed = Invoke-Observed { $web01, $web02, $db | Remove-KvmVM }
        Get-KernelVMCount | Should-Be 0
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound web02 'web02' 'Get-KvmVM'
    }

    It 'reports an unknown name' {
        $observed = Invoke-Observed { Remove-KvmVM nobody, db }
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
        (Get-KvmVM).VMName | Should-BeCollection web01, web02
    }

    It 'removes nothing with -WhatIf' {
        $observed = Invoke-Interactive 'Remove-KvmVM web* -WhatIf'
        $observed.Lines | Should-BeCollection -Count 2
        $observed.Lines[1] | Should-MatchString "Remove the VM`" on target `"web02 \(process $PID\)"
        Get-KernelVMCount | Should-Be 3
    }

    It 'asks with -Confirm, and leaves <Left> VMs when the answer is <Answer>' -ForEach @(
        @{ Answer = 'No'; Left = 3 }
        @{ Answer = 'Yes'; Left = 1 }
    ) {
        $observed = Invoke-Interactive 'Remove-KvmVM web* -Confirm' $Answer
        $observed.Questions | Should-BeCollection -Count 2
        Get-KernelVMCount | Should-Be $Left
    }

    It 'is done to all when the module goes' {
        $observed = Invoke-Interactive '$manifest = Join-Path (Get-Module KvmTsc).ModuleBase KvmTsc.psd1; Remove-Module KvmTsc; Import-Module $manifest'
        $observed.Errors | Should-BeCollection @()
        Get-KernelVMCount | Should-Be 0
    }
}
