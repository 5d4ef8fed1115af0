#Requires -Version 7.6
<#
.SYNOPSIS
Measures the rows of the benchmark that take a KVM host, for Measure-All.ps1.
#>
param([string] $Row, [string] $Report)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/Bench.psm1", "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
$Programs = Split-Path $Report
$Directory = (New-Item "$([IO.Path]::GetTempPath())/bench-$PID" -ItemType Directory).FullName
$Rows = $Row.Split(',')
$Rest = 200 # vCPUs that were let go go back into KVM_RUN, and until the last has, they compete for the CPU
$Started = [Diagnostics.Stopwatch]::StartNew()
$ListMilliseconds, $ListBytes = @{}, @{}
$VMs = [Collections.Generic.List[Diagnostics.Process]]::new()

function Test-Row([string[]] $Pattern) {
    @($Pattern | Where-Object { $Rows -like $_ }).Count -gt 0
}

function Write-News([string] $Message) {
    Write-Information ('{0,4:0} s: {1}' -f $Started.Elapsed.TotalSeconds, $Message) -InformationAction Continue
}

function ConvertTo-Number([string] $Line) {
    [double[]] $Line.Split(' ')
}

function Use-VM([int] $VcpuCount, [scriptblock] $Action) {
    $vm = Open-VM "$Programs/vmm" $VcpuCount
    try {
        Start-Sleep -Seconds 1
        $vm | ForEach-Object $Action
    }
    finally {
        Close-VM $vm
    }
}

function Get-Machine([Diagnostics.Process] $VM) {
    [KvmTsc.Discovery.VMDiscovery]::Of($VM.Id)[0]
}

# The columns of what turns gave, as rows of numbers.
function Get-Column([object[]] $Turn, [int] $Index) {
    $Turn | ForEach-Object { $_[$Index] }
}

# What one stop consists of, in milliseconds: waiting for the others' vCPUs, stopping, ioctls, releasing, and all.
function Get-Phase([KvmTsc.Machines.Machine] $Machine) {
    $phases = $Machine.Executor.LastPhases
    $phases.Waiting, $phases.Stopping, $phases.Running, $phases.Releasing | ForEach-Object { $_ / 1000 }
}

# A C program that does the same with one ptrace stop per ioctl: the milliseconds for which the VM was stopped.
function Measure-Naive([int] $ProcessId, [string[]] $Options = @()) {
    ((ConvertTo-Number (& "$Programs/naive" $ProcessId @Options)) | Measure-Object -Sum).Sum / 1000
}

# And gdb, which has the VMM call ioctl.
function Measure-Debugger([int] $ProcessId) {
    $descriptors = @(Get-ChildItem "/proc/$ProcessId/fd" | Where-Object LinkTarget -Like 'anon_inode:kvm-v*')
    $vm = ($descriptors | Where-Object LinkTarget -EQ 'anon_inode:kvm-vm').Name
    $ioctl = 'call (int)ioctl({0}, {1}, $sp - 4096)'
    $lines = @('set scheduler-locking on'; $ioctl -f $vm, '0x8030ae7c' <# KVM_GET_CLOCK #>)
    foreach ($vcpu in ($descriptors | Where-Object LinkTarget -Like 'anon_inode:kvm-vcpu:*').Name) {
        $lines += 'set {long}($sp - 4096) = 0', 'set {long}($sp - 4088) = 0', 'set {long}($sp - 4080) = $sp - 4000'
        $lines += ($ioctl -f $vcpu, '0x4018aee2' <# KVM_GET_DEVICE_ATTR #>), ($ioctl -f $vcpu, '0xaea3' <# KVM_GET_TSC_KHZ #>)
    }
    Set-Content "$Directory/gdb" $lines
    Measure-Time {
        $said = gdb -batch -nx -p $ProcessId -x "$Directory/gdb" 2>&1
        if (@($said -match '^\$\d+ = -?\d+$').Count -ne $descriptors.Count * 2 - 1 -or $said -match '^\$\d+ = -') {
            throw "gdb: $($said | Select-Object -Last 3)"
        }
    }
}

function Measure-Set {
    $vcpus = 255
    Use-VM $vcpus {
        $vm = $_
        $null = New-KvmVM bench -VcpuCount $vcpus
        $ways = [ordered]@{
            KvmTsc = { (Measure-Time { Get-KvmVcpuTscOffset bench | Set-KvmVcpuTscOffset -Confirm:$false }) * 1000 / $vcpus }
            C      = { (ConvertTo-Number (Send-Command $vm offsets))[0] / $vcpus }
        }
        $first = & $ways.KvmTsc
        $turns = Measure-Turn $ways 9 $Rest
        $over = 0..($turns.C.Count - 1) | ForEach-Object { $turns.KvmTsc[$_] - $turns.C[$_] }
        Add-Measured $Report set-255 $over $turns.C -Parts ([ordered]@{ 'the first time' = $first })
        Remove-KvmVM bench -Confirm:$false
    }
}

function Measure-Clock {
    Use-VM 64 {
        $vm = $_
        $machine = Get-Machine $vm
        $attached = {
            $null = [KvmTsc.Migration.KvmTscState]::Save($machine, $true, [Threading.CancellationToken]::None)
            Get-Phase $machine
        }
        1..15 | ForEach-Object { $null = & $attached } # .NET compiles on first use, or better after some
        $turns = Measure-Turn ([ordered]@{
                Inside = { (ConvertTo-Number (Send-Command $vm read))[0] / 1000 }
                KvmTsc = $attached
                Naive  = { Measure-Naive $vm.Id }
            }) 11 $Rest
        $inside = [double[]] ($turns.Inside | ForEach-Object { $_ })
        $rivals = [ordered]@{ 'one ptrace stop per ioctl' = [double[]] ($turns.Naive | ForEach-Object { $_ }) }
        if (Get-Command gdb -CommandType Application -ErrorAction Ignore) {
            $rivals['gdb, call ioctl'] = @(Measure-Debugger $vm.Id)
        }
        $parts = [ordered]@{ stop = Get-Median (Get-Column $turns.KvmTsc 1); ioctls = Get-Median (Get-Column $turns.KvmTsc 2); release = Get-Median (Get-Column $turns.KvmTsc 3) }
        $whole = $turns.KvmTsc | ForEach-Object { ($_ | Measure-Object -Sum).Sum }
        if (Test-Row clock-64) { Add-Measured $Report clock-64 $whole $inside -Rivals $rivals -Parts $parts }
        if (Test-Row clock-64-ioctls) { Add-Measured $Report clock-64-ioctls (Get-Column $turns.KvmTsc 2) $inside }
    }
}

# Pauses a VM, waits for its resume, resumes it once it is in view, and restores it.
function Invoke-HeldRestore([Diagnostics.Process] $VM, [KvmTsc.Machines.Machine] $Machine) {
    $state = [KvmTsc.Migration.KvmTscState]::Save($Machine, $true, [Threading.CancellationToken]::None)
    $null = Send-Command $VM pause
    $restore = [KvmTsc.Migration.TscRestore]::new($Machine, $state, [KvmTsc.Migration.TscRestoreOptions]::new())
    $resumed = [ref] $false
    $resume = {
        if (-not $resumed.Value) {
            $VM.StandardInput.WriteLine('cont')
            $resumed.Value = $true
        }
    }
    $result = $restore.RunAtResume([timespan]::FromMinutes(1), $resume, [Threading.CancellationToken]::None)
    $null = $VM.StandardOutput.ReadLine()
    @($result.StoppedMicroseconds / 1000) + @(Get-Phase $Machine)
}

function Measure-Hold([int] $VcpuCount) {
    Use-VM $VcpuCount {
        $vm = $_
        $machine = Get-Machine $vm
        $offset = [KvmTsc.Migration.KvmTscState]::Save($machine, $true, [Threading.CancellationToken]::None).Vcpus[0].OffsetTicks
        1..5 | ForEach-Object { $null = Invoke-HeldRestore $vm $machine }
        $turns = Measure-Turn ([ordered]@{
                Inside = { ((ConvertTo-Number (Send-Command $vm restore)) | Measure-Object -Sum).Sum / 1000 }
                KvmTsc = { Invoke-HeldRestore $vm $machine }
                Naive  = { (Measure-Naive $vm.Id) + (Measure-Naive $vm.Id '--write', "$offset,$offset") }
            }) 11 $Rest
        $held = Get-Column $turns.KvmTsc 0
        $parts = [ordered]@{}
        $names = 'waiting for all vCPUs', 'stop', 'ioctls', 'release'
        for ($i = 0; $i -lt $names.Count; $i++) {
            $parts[$names[$i]] = Get-Median (Get-Column $turns.KvmTsc ($i + 1))
        }
        $parts['between'] = Get-Median ($turns.KvmTsc | ForEach-Object { 2 * $_[0] - ($_ | Measure-Object -Sum).Sum })
        $rivals = [ordered]@{ 'one ptrace stop per ioctl, to read, and to write' = [double[]] ($turns.Naive | ForEach-Object { $_ }) }
        if (Test-Row "hold-$VcpuCount") { Add-Measured $Report "hold-$VcpuCount" $held ($turns.Inside | ForEach-Object { $_ }) -Rivals $rivals -Parts $parts }
        if (Test-Row "hold-$VcpuCount-ms") { Add-Measured $Report "hold-$VcpuCount-ms" $held }
    }
}

function Open-Many([int] $Count) {
    if ($VMs.Count -lt $Count) {
        Write-News "Starting VMs until there are $Count"
    }
    while ($VMs.Count -lt $Count) {
        $VMs.Add((Open-VM "$Programs/vmm"))
    }
}

function Measure-Floor([string] $What) {
    (ConvertTo-Number (& "$Programs/floor" $What 3))[0] / 1000
}

function Measure-List([int] $Count) {
    Open-Many $Count
    if (@(Get-KvmVM).Count -ne $Count) {
        throw "Get-KvmVM does not list $Count VMs."
    }
    $ways = [ordered]@{
        KvmTsc = { Measure-Time { Get-KvmVM } }
        First  = { Measure-Time { Get-KvmVM | Select-Object -First 1 } }
        C      = { Measure-Floor vms }
    }
    $turns = Measure-Turn $ways ($Count -lt 1000 ? 7 : 3)
    $before = [GC]::GetAllocatedBytesForCurrentThread()
    $null = Get-KvmVM
    $ListBytes[$Count] = [GC]::GetAllocatedBytesForCurrentThread() - $before
    $ListMilliseconds[$Count] = Get-Median $turns.KvmTsc
    if (Test-Row "list-$Count") { Add-Measured $Report "list-$Count" $turns.KvmTsc $turns.C }
    if ($Count -eq 200 -and (Test-Row list-first)) { Add-Measured $Report list-first $turns.First $turns.KvmTsc }
}

# What a VM more takes among many, and among few.
function Measure-Growth {
    $more = { param($Of, $From, $To) ($Of[$To] - $Of[$From]) / ($To - $From) }
    if (Test-Row list-growth) { Add-Measured $Report list-growth (& $more $ListMilliseconds 200 1000) (& $more $ListMilliseconds 1 200) }
    if (Test-Row list-memory) { Add-Measured $Report list-memory ((& $more $ListBytes 200 1000) / 1KB) ((& $more $ListBytes 1 200) / 1KB) }
}

function Measure-Offset {
    Open-Many 200
    $listed = Get-KvmVM
    $read = $listed | Get-KvmVcpuTscOffset
    if ($read.Count -ne 400 -or @($read | Where-Object Source -NE Debugfs)) {
        throw 'Offsets were not read from debugfs.'
    }
    $turns = Measure-Turn ([ordered]@{ KvmTsc = { Measure-Time { $listed | Get-KvmVcpuTscOffset } }; C = { Measure-Floor offsets } }) 5
    Add-Measured $Report offsets-200 $turns.KvmTsc $turns.C
}

# From an instant, in ticks, to when a watch's script had the last event of a name, in milliseconds.
function Measure-Told([string] $Log, [string] $Name, [int] $Count, [long] $Since) {
    ([long] @(Wait-Line $Log " $Name " $Count)[-1].Split(' ')[0] - $Since) / 10000
}

function Measure-Watch {
    $settlingSeconds, $idleSeconds, $events = 15, 30, 9
    Open-Many 200
    $log = "$Directory/watch"
    $watch = Open-Watch $log '[IO.File]::AppendAllText($Log, "$([DateTime]::UtcNow.Ticks) $($_.Event) $($_.VMName)`n")'
    try {
        $null = Wait-Line $log ' Found ' 200
        $costs = foreach ($seconds in 0, $settlingSeconds, $idleSeconds) { # those that were just found are looked at five times, and that takes seconds
            Start-Sleep -Seconds $seconds
            Get-Cost $watch
        }
        if (Test-Row watch-idle) {
            Add-Measured $Report watch-idle (($costs[2] - $costs[1]) / $idleSeconds / 10) -Parts ([ordered]@{ 'the first 15 seconds' = ($costs[1] - $costs[0]) / $settlingSeconds / 10 })
        }
        if (Test-Row watch-set-back) {
            Add-Measured $Report watch-set-back (1..$events | ForEach-Object {
                    $null = Send-Command $VMs[0] pause
                    Start-Sleep -Milliseconds 20
                    $nanoseconds = [long] (Send-Command $VMs[0] cont)
                    Measure-Told $log -Name SetBack -Count $_ -Since ($nanoseconds / 100 + [DateTime]::UnixEpoch.Ticks)
                })
        }
        if (Test-Row watch-ended) {
            $seen = [Collections.Generic.List[double]]::new()
            $told = foreach ($i in 1..$events) {
                $last = $VMs[$VMs.Count - 1]
                $VMs.RemoveAt($VMs.Count - 1)
                $since = [DateTime]::UtcNow.Ticks
                $seen.Add((Measure-Time { Close-VM $last }))
                (Measure-Told $log -Name Ended -Count $i -Since $since) - $seen[-1]
                Start-Sleep -Milliseconds 500
            }
            Add-Measured $Report watch-ended $told $seen
        }
    }
    finally {
        Close-Watch $watch
    }
}

try {
    if (Test-Row set-255) { Write-News 'Offsets of 255 vCPUs'; Measure-Set }
    if (Test-Row clock-64*) { Write-News 'Clocks of 64 vCPUs'; Measure-Clock }
    foreach ($count in 2, 64) {
        if (Test-Row "hold-$count*") { Write-News "Holds of $count vCPUs"; Measure-Hold $count }
    }
    if (Test-Row list-*) { 1, 50, 200 | ForEach-Object { Measure-List $_ } }
    if (Test-Row offsets-200) { Measure-Offset }
    if (Test-Row watch-*) { Write-News 'Watching'; Measure-Watch }
    if (Test-Row list-1000, list-growth, list-memory) { Measure-List 1000; Measure-Growth }
    Write-News 'Done'
}
finally {
    if ($VMs.Count) { Close-VM $VMs }
    Remove-Item $Directory -Recurse
}
