Describe 'Get-KvmVM' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $null = New-KvmVM web01 -VcpuCount 2
        $null = 'web01-new', 'db' | New-KvmVM
    }

    AfterAll {
        Clear-VM
    }

    It 'lists every VM in the order of their creation' {
        (Get-KvmVM).VMName | Should-BeCollection web01, web01-new, db
    }

    It 'tells the process, its descriptor of the VM, its program and the vCPUs' {
        $vm = Get-KvmVM web01
        $vm.ProcessId | Should-Be $PID
        (Get-Item "/proc/$PID/fd/$($vm.VMId -replace '^\d+:')").LinkTarget | Should-Be 'anon_inode:kvm-vm'
        $vm.Vmm | Should-Be 'KvmTsc'
        $vm.VcpuCount | Should-Be 2
        @(Get-KernelOffset web01) | Should-BeCollection -Count 2
    }

    It 'takes names and wildcards, and writes each VM once' {
        (Get-KvmVM WEB01, web*, db).VMName | Should-BeCollection web01, web01-new, db
    }

    It 'takes the process that runs them' {
        (Get-KvmVM -ProcessId $PID).VMName | Should-BeCollection web01, web01-new, db
    }

    It 'reports an unknown name and goes on with the others' {
        $observed = Invoke-Observed { Get-KvmVM nobody, db }
        $observed.Output.VMName | Should-BeCollection @('db')
        $observed.Errors | Should-BeCollection -Count 1
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound nobody 'nobody' 'Get-KvmVM'
    }

    It 'reports a process that runs no VM' {
        $observed = Invoke-Observed { Get-KvmVM -ProcessId 1 }
        $observed.Output | Should-BeCollection @()
        Assert-KvmError $observed.Errors[0] VMNotFound ObjectNotFound 1 'Process 1 ' 'Get-KvmVM'
    }

    It 'is silent about a wildcard without a match' {
        $observed = Invoke-Observed { Get-KvmVM 'nobody*' }
        $observed.Output | Should-BeCollection @()
        $observed.Errors | Should-BeCollection @()
    }
}
