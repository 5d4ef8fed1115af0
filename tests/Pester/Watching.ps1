# What the tests of watches share: QEMUs to be watched, and watches. Dot-source it after Common.ps1.
Import-Module "$PSScriptRoot/../../samples/QemuMigration/Qemu.psm1"
$script:openWatches = [Collections.Generic.List[hashtable]]::new()

# A QEMU whose firmware finds nothing to boot, so that its vCPUs idle.
function Open-Watched([string] $Name, [string] $Incoming, [string] $Directory = $TestDrive, [int] $VcpuCount = 2) {
    $null = New-Item $Directory -ItemType Directory -Force
    $firmware = "$Directory/$Name.firmware"
    Open-Qemu -Name $Name -Directory $Directory -Options @(
        '-name', 'debug-threads=on', '-cpu', 'host', '-smp', "$VcpuCount", '-m', '32M'
        '-chardev', "file,id=firmware,path=$firmware", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware'
        if ($Incoming) { '-incoming', $Incoming }
    )
    if (-not $Incoming) {
        Wait-Until 'the firmware gives up' { Select-String 'No bootable device' $firmware -Quiet }
    }
}

# Resets one, whose firmware, which finds itself in memory as it left it, resets it once more, some time later, and begins anew then.
function Invoke-Reset([object] $Qemu) {
    $firmware = "$TestDrive/$($Qemu.Name).firmware"
    $ends = { @(Select-String 'No bootable device' $firmware).Count }
    $before = & $ends
    $null = Invoke-Qmp $Qemu system_reset
    Wait-Until 'the firmware gives up again' { (& $ends) -gt $before }
}

# Watches in the background, until Close-Watch, or Close-OpenWatch where a test has failed: two would take from each other what they wait for. What is known is kept for itself alone, if nothing else is said.
function Open-Watch([hashtable] $Given = @{}) {
    if (-not $Given.ContainsKey('StatePath')) {
        $Given.StatePath = "$TestDrive/$([guid]::NewGuid())"
    }
    $events = [System.Management.Automation.PSDataCollection[psobject]]::new()
    $shell = [powershell]::Create((Get-SessionBeside)).AddCommand('Watch-KvmClock').AddParameters($Given)
    $nothing = [System.Management.Automation.PSDataCollection[psobject]]::new()
    $nothing.Complete()
    $null = $shell.BeginInvoke($nothing, $events)
    $watch = @{ Shell = $shell; Events = $events; Seen = 0 }
    $openWatches.Add($watch)
    $null = Wait-Told $watch Found
    $watch
}

# What it has told, from an event on: whoever enumerates its events waits for more.
function Get-Told([hashtable] $Watch, [int] $From = 0) {
    for ($i = $From; $i -lt $Watch.Events.Count; $i++) { $Watch.Events[$i] }
}

# The next event of one of these names; those before it are passed over.
function Wait-Told([hashtable] $Watch, [string[]] $Name) {
    Wait-Until "the watch tells of $($Name -join ' or ')" {
        while ($Watch.Seen -lt $Watch.Events.Count) {
            if ($Watch.Events[$Watch.Seen++].Event -in $Name) { return $true }
        }
        $false
    }
    $Watch.Events[$Watch.Seen - 1]
}

# What watches have in tracefs.
function Get-TraceInstance {
    Get-ChildItem '/sys/kernel/debug/tracing/instances' -Filter 'kvmtsc-*'
}

function Close-Watch([hashtable] $Watch) {
    $null = $openWatches.Remove($Watch)
    $stopping = $Watch.Shell.BeginStop($null, $null)
    $stopping.AsyncWaitHandle.WaitOne(120000) | Should-BeTrue
    $Watch.Shell.Streams.Error | Should-BeCollection @()
    $Watch.Shell.Dispose()
    Get-TraceInstance | Should-BeCollection @()
}

function Close-OpenWatch {
    @($openWatches) | ForEach-Object { Close-Watch $_ }
}

# Reads a clock when the watch is out of the VM: a process has one tracer.
function Read-Clock([string] $Name) {
    $read = @{}
    Wait-Until "$Name is let go" { $read.Clock = Get-KvmClock $Name -ErrorAction Ignore; $read.Clock }
    $read.Clock
}

# A guest of less is taken for one that begins anew.
function Wait-Grown([string] $Name) {
    Wait-Until 'its clocks can be told from those of a VM that begins' { (Read-Clock $Name).ClockNanoseconds -gt 8000000000 }
}

# The vCPUs whose threads are traced: not one whose thread is not known yet, or has ended.
filter Select-Held {
    if ($_.ThreadId -and (Select-String '^TracerPid:\s+[1-9]' "/proc/$($_.ProcessId)/task/$($_.ThreadId)/status" -Quiet -ErrorAction Ignore)) {
        $_
    }
}

# Waits until the vCPUs' threads of a QEMU that awaits a guest are held at their next entry into it.
function Wait-Watched([object] $Qemu) {
    Wait-Until 'its vCPUs are watched' {
        @(Get-KvmVcpu -ProcessId $Qemu.Process.Id | Select-Held).Count -eq 2
    }
}

# What the guest lost between two readings, in nanoseconds.
function Get-Lost([object] $Before, [object] $After) {
    ([long] $After.RealtimeNanoseconds - [long] $Before.RealtimeNanoseconds) - ([long] $After.ClockNanoseconds - [long] $Before.ClockNanoseconds)
}

# Has a guest of lab/guest write IA32_TSC of some of its vCPUs: so many ticks more than it was.
function Move-GuestTsc([object] $Guest, [long] $Ticks, [int[]] $VcpuId) {
    $null = Receive-GuestLog $Guest
    $null = $Guest.Console.Send([Text.Encoding]::ASCII.GetBytes("move-tsc $Ticks $VcpuId`n"))
    Wait-GuestLog $Guest '^moved tsc '
    @(Receive-GuestLog $Guest) -match 'cannot write its TSC|^msr|^moved tsc' | Should-BeCollection @("moved tsc $($VcpuId.Count)")
}

# The same by the host's TSC, where CLOCK_REALTIME may have been set.
function Get-LostByTsc([object] $Before, [object] $After) {
    $ticks = [decimal] $After.HostTsc - [decimal] $Before.HostTsc
    [long] ($ticks * 1000000 / (Get-KvmHost).TscKHz - ([decimal] $After.ClockNanoseconds - [decimal] $Before.ClockNanoseconds))
}

# A disk that a QEMU keeps snapshots on; its guest does not have it.
function Add-SnapshotDisk([object] $Qemu) {
    $file = "$TestDrive/$($Qemu.Name).qcow2"
    Invoke-QmpJob $Qemu -Command blockdev-create -Arguments @{ options = @{ driver = 'file'; filename = $file; size = 0 } }
    $null = Invoke-Qmp $Qemu blockdev-add @{ 'node-name' = 'file'; driver = 'file'; filename = $file }
    Invoke-QmpJob $Qemu -Command blockdev-create -Arguments @{ options = @{ driver = 'qcow2'; file = 'file'; size = 64MB } }
    $null = Invoke-Qmp $Qemu blockdev-add @{ 'node-name' = 'disk'; driver = 'qcow2'; file = 'file' }
}

function Save-Snapshot([object] $Qemu) {
    Invoke-QmpJob $Qemu -Command snapshot-save -Arguments @{ tag = 'one'; vmstate = 'disk'; devices = @('disk') }
}

function Restore-Snapshot([object] $Qemu) {
    Invoke-QmpJob $Qemu -Command snapshot-load -Arguments @{ tag = 'one'; vmstate = 'disk'; devices = @('disk') }
}

# A QMP command that is a job, until it is done.
function Invoke-QmpJob([object] $Qemu, [string] $Command, [hashtable] $Arguments) {
    $null = Invoke-Qmp $Qemu $Command (@{ 'job-id' = 'job' } + $Arguments)
    $jobs = @{}
    Wait-Until "$Command is done" {
        $jobs.Job = Invoke-Qmp $Qemu query-jobs | Where-Object id -EQ job
        $jobs.Job.status -eq 'concluded'
    }
    $jobs.Job['error'] | Should-BeNull
    $null = Invoke-Qmp $Qemu job-dismiss @{ id = 'job' }
}

function Invoke-Pause([object] $Qemu, [int] $Milliseconds) {
    $null = Invoke-Qmp $Qemu stop
    Start-Sleep -Milliseconds $Milliseconds
    $null = Invoke-Qmp $Qemu cont
}
