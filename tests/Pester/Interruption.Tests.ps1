# Ctrl+C stops a pipeline as PowerShell.Stop does.
Describe 'A pipeline that is stopped' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM

        # Starts a script on a thread of its own, which is $signal.Thread once the script has set it.
        function Open-Pipeline([string] $Script) {
            $signal = [hashtable]::Synchronized(@{ Thread = $null })
            $session.SessionStateProxy.SetVariable('signal', $signal)
            $shell = [powershell]::Create($session).AddScript($Script)
            $output = [System.Management.Automation.PSDataCollection[psobject]]::new()
            $null = $shell.BeginInvoke([System.Management.Automation.PSDataCollection[psobject]]::new(), $output)
            @{ Shell = $shell; Signal = $signal; Output = $output }
        }

        # The limit only turns a hang into a failure.
        function Wait-Until([scriptblock] $Condition) {
            $clock = [Diagnostics.Stopwatch]::StartNew()
            while (-not (& $Condition)) {
                if ($clock.Elapsed.TotalSeconds -gt 120) {
                    throw "It did not come to this: $Condition"
                }
                Start-Sleep -Milliseconds 20 # the other thread may need the CPU
            }
        }

        function Close-Pipeline([hashtable] $Pipeline) {
            $stopping = $Pipeline.Shell.BeginStop($null, $null)
            if (-not $stopping.AsyncWaitHandle.WaitOne(120000)) {
                throw 'The pipeline does not stop.'
            }
            $Pipeline.Shell.EndStop($stopping)
            "$($Pipeline.Shell.InvocationStateInfo.State)"
        }

        $script:session = Open-LocalSession
    }

    AfterAll {
        $session.Dispose()
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
        $machine = [KvmTsc.Local.LocalMachines]::All | Where-Object { $_.Identity.Id -eq $vm.VMId }
        [Func[KvmTsc.Execution.IVMStop, object]] $whileHeld = {
            $pipeline = Open-Pipeline "Get-KvmVM web01 | ForEach-Object { `$signal.Thread = [Threading.Thread]::CurrentThread; `$_ } | $Script"
            Wait-Until { $pipeline.Signal.Thread -and ($pipeline.Signal.Thread.ThreadState -band [Threading.ThreadState]::WaitSleepJoin) }
            @{ State = Close-Pipeline $pipeline; Written = $pipeline.Output.Count }
        }
        $ended = $machine.Executor.WhileStopped[object]($whileHeld, [Threading.CancellationToken]::None, $null).Result
        $ended.State | Should-Be 'Stopped'
        $ended.Written | Should-Be 0
        Get-KernelOffset web01 | Should-Be -1000
        Set-KvmVcpuTscOffset web01 7
        Get-KernelOffset web01 | Should-Be 7
        Remove-KvmVM web01
    }

    It 'in the midst of a test of many offsets ends, and leaves no VM' {
        $before = Get-KernelVMCount
        $pipeline = Open-Pipeline 'Test-KvmVcpuTscOffset -OffsetTicks (1..100000)'
        Wait-Until { $pipeline.Output.Count -gt 0 }
        Close-Pipeline $pipeline | Should-Be 'Stopped'
        $pipeline.Output.Count | Should-BeLessThan 100003
        Get-KernelVMCount | Should-Be $before
    }

    It 'leaves the VMs of the process when its runspace goes' {
        $null = New-KvmVM web01
        $other = Open-LocalSession
        $null = [powershell]::Create($other).AddScript('New-KvmVM web02').Invoke()
        $other.Dispose()
        (Get-KvmVM -ProcessId $PID).VMName | Should-BeCollection web01, web02
    }
}
