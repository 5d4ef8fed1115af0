# Ctrl+C stops a pipeline as PowerShell.Stop does.
Describe 'A pipeline that is stopped' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM

        # Starts a script in a runspace of its own, on a thread of its own. $signal.Thread becomes that thread once the script sets it.
        function Start-Pipeline([string] $Script) {
            $state = [initialsessionstate]::CreateDefault2()
            $state.ImportPSModule((Get-Module KvmTsc).Path)
            $runspace = [runspacefactory]::CreateRunspace($state)
            $runspace.Open()
            $signal = [hashtable]::Synchronized(@{ Thread = $null })
            $runspace.SessionStateProxy.SetVariable('signal', $signal)
            $shell = [powershell]::Create($runspace).AddScript($Script)
            $output = [System.Management.Automation.PSDataCollection[psobject]]::new()
            @{ Shell = $shell; Runspace = $runspace; Signal = $signal; Output = $output; Running = $shell.BeginInvoke([System.Management.Automation.PSDataCollection[psobject]]::new(), $output) }
        }

        # The limit only turns a hang into a failure.
        function Wait-Until([scriptblock] $Condition) {
            if (-not [Threading.SpinWait]::SpinUntil([Func[bool]] $Condition, 120000)) {
                throw "It did not come to this: $Condition"
            }
        }

        function Stop-Pipeline([hashtable] $Pipeline) {
            $stopping = $Pipeline.Shell.BeginStop($null, $null)
            if (-not $stopping.AsyncWaitHandle.WaitOne(120000)) {
                throw 'The pipeline does not stop.'
            }
            $Pipeline.Shell.EndStop($stopping)
            "$($Pipeline.Shell.InvocationStateInfo.State)"
        }
    }

    AfterAll {
        Clear-VM
    }

    It 'while <Script> waits for a VM that another one holds, ends, and leaves the VM free' -ForEach @(
        @{ Script = 'Get-KvmClock' }
        @{ Script = 'Set-KvmVcpuTscOffset -OffsetTicks 5' }
        @{ Script = 'Save-KvmTscState' }
        @{ Script = 'Test-KvmVcpuTscOffset' }
    ) {
        $vm = New-KvmVM web01
        Set-KvmVcpuTscOffset web01 -1000
        $hold = ([KvmTsc.Machines.LocalMachines]::All | Where-Object { $_.Identity.Id -eq $vm.VMId }).Executor.Stop([Threading.CancellationToken]::None)
        try {
            $pipeline = Start-Pipeline "Get-KvmVM web01 | ForEach-Object { `$signal.Thread = [Threading.Thread]::CurrentThread; `$_ } | $Script"
            Wait-Until { $pipeline.Signal.Thread -and ($pipeline.Signal.Thread.ThreadState -band [Threading.ThreadState]::WaitSleepJoin) }
            Stop-Pipeline $pipeline | Should-Be 'Stopped'
        }
        finally {
            $hold.Dispose()
        }
        $pipeline.Output.Count | Should-Be 0
        Get-KernelOffset web01 | Should-Be -1000
        Set-KvmVcpuTscOffset web01 7
        Get-KernelOffset web01 | Should-Be 7
        Remove-KvmVM web01
        $pipeline.Runspace.Dispose()
    }

    It 'in the midst of a test of many offsets ends, and leaves no VM' {
        $before = Get-KernelVMCount
        $pipeline = Start-Pipeline 'Test-KvmVcpuTscOffset -OffsetTicks (1..1000000)'
        Wait-Until { $pipeline.Output.Count -gt 0 }
        Stop-Pipeline $pipeline | Should-Be 'Stopped'
        $pipeline.Output.Count | Should-BeLessThan 1000003
        $pipeline.Runspace.Dispose()
        Get-KernelVMCount | Should-Be $before
    }

    It 'leaves the VMs of the process when its runspace goes' {
        $null = New-KvmVM web01
        $pipeline = Start-Pipeline 'New-KvmVM web02'
        $null = $pipeline.Shell.EndInvoke($pipeline.Running)
        $pipeline.Runspace.Dispose()
        (Get-KvmVM -ProcessId $PID).VMName | Should-BeCollection web01, web02
    }
}
