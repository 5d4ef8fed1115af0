Describe 'Get-KvmVcpu' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:vm = New-KvmVM web01 -VcpuCount 3
    }

    AfterAll {
        Clear-VM
    }

    It 'lists the vCPUs, which stand still without a thread of their own' {
        $vcpus = Get-KvmVcpu web01
        $vcpus.VcpuId | Should-BeCollection 0, 1, 2
        $vcpus.VMId | Should-BeCollection $vm.VMId, $vm.VMId, $vm.VMId
        $vcpus.ProcessId | Should-BeCollection $PID, $PID, $PID
        $vcpus | Should-All { "$($_.State)" -eq 'Stopped' -and $null -eq $_.ThreadId }
    }
}
