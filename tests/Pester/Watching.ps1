# What the tests of watches share: QEMUs to be watched, and watches. Dot-source it after Common.ps1.
Import-Module "$PSScriptRoot/../../samples/QemuMigration/Qemu.psm1"

# A QEMU whose firmware finds nothing to boot, so that its vCPUs idle.
function Open-Watched([string] $Name, [string] $Incoming, [string] $Directory = $TestDrive) {
    $null = New-Item $Directory -ItemType Directory -Force
    $firmware = "$Directory/$Name.firmware"
    Open-Qemu -Name $Name -Directory $Directory -Options @(
        '-name', 'debug-threads=on', '-cpu', 'host', '-smp', '2', '-m', '32M'
        '-chardev', "file,id=firmware,path=$firmware", '-device', 'isa-debugcon,iobase=0x402,chardev=firmware'
        if ($Incoming) { '-incoming', $Incoming }
    )
    if (-not $Incoming) {
        Wait-Until 'the firmware gives up' { Select-String 'No bootable device' $firmware -Quiet }
    }
}

# Watches in the background, until Close-Watch. What is known is kept for itself alone, if nothing else is said.
function Open-Watch([hashtable] $Given = @{}) {
    if (-not $Given.ContainsKey('StatePath')) {
        $Given.StatePath = "$TestDrive/$([guid]::NewGuid())"
    }
    $state = [initialsessionstate]::CreateDefault2()
    $state.ImportPSModule((Get-ManifestPath))
    $events = [System.Management.Automation.PSDataCollection[psobject]]::new()
    $shell = [powershell]::Create($state).AddCommand('Watch-KvmClock').AddParameters($Given)
    $nothing = [System.Management.Automation.PSDataCollection[psobject]]::new()
    $nothing.Complete()
    $null = $shell.BeginInvoke($nothing, $events)
    $watch = @{ Shell = $shell; Events = $events; Seen = 0 }
    $null = Wait-Told $watch Found
    $watch
}

# The next event of that name; those before it are passed over.
function Wait-Told([hashtable] $Watch, [string] $Name) {
    Wait-Until "the watch tells of $Name" {
        while ($Watch.Seen -lt $Watch.Events.Count) {
            if ($Watch.Events[$Watch.Seen++].Event -eq $Name) { return $true }
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
    $stopping = $Watch.Shell.BeginStop($null, $null)
    $stopping.AsyncWaitHandle.WaitOne(120000) | Should-BeTrue
    $Watch.Shell.Streams.Error | Should-BeCollection @()
    $Watch.Shell.Dispose()
    Get-TraceInstance | Should-BeCollection @()
}

# Reads a clock when the watch is out of the VM: a process has one tracer.
function Read-Clock([string] $Name) {
    $read = @{}
    Wait-Until "$Name is let go" { $read.Clock = Get-KvmClock $Name -ErrorAction Ignore; $read.Clock }
    $read.Clock
}

# What the guest lost between two readings, in nanoseconds.
function Get-Lost([object] $Before, [object] $After) {
    ([long] $After.RealtimeNanoseconds - [long] $Before.RealtimeNanoseconds) - ([long] $After.ClockNanoseconds - [long] $Before.ClockNanoseconds)
}

function Invoke-Pause([object] $Qemu, [int] $Milliseconds) {
    $null = Invoke-Qmp $Qemu stop
    Start-Sleep -Milliseconds $Milliseconds
    $null = Invoke-Qmp $Qemu cont
}
