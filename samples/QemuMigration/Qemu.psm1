#Requires -Version 7.6
# QEMU/KVM guests that run lab/guest, spoken to by QMP and by their serial port. One on another host is spoken to there, by Use-Guest: this
# module is to be imported in the session.

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'

$Guests = @{} # by their names, what this module here knows of those that it started
$Patience = [timespan]::FromMinutes(10) # an emulated host that shares its processors is slow
$PollMilliseconds = 500 # on an emulated host it is looking that takes the time
# A microvm has no CMOS clock, and Linux would look for it for some 10 s of an emulated host, or 20.
$SlowPart = 'mitigations=off nokaslr audit=0 apparmor=0 cryptomgr.notests no_timer_check init_on_alloc=0 noxsave random.trust_cpu=on rcupdate.rcu_cpu_stall_suppress_at_boot=1 initcall_blacklist=cmos_init'

<#
.SYNOPSIS
Starts a QEMU with the guest, or with an empty one that awaits an incoming migration.
.DESCRIPTION
With a session on its host; what is returned then is for Use-Guest only.
#>
function Open-Guest {
    param(
        [Parameter(Mandatory)] [string] $Name,
        # Where the QEMU's sockets and the guest's log are to be.
        [Parameter(Mandatory)] [string] $Directory,
        # What lab/guest/build printed.
        [Parameter(Mandatory)] [string] $Image,
        [Parameter(Mandatory)] [string] $ClockSource,
        [string] $Incoming,
        [Management.Automation.Runspaces.PSSession] $Session
    )
    if ($Session) {
        $null = $PSBoundParameters.Remove('Session')
        Invoke-Command $Session { param($Parameters) $null = Open-Guest @Parameters } -ArgumentList $PSBoundParameters
        return [pscustomobject]@{ Name = $Name; Session = $Session }
    }
    $null = New-Item $Directory -ItemType Directory -Force
    $files = Join-Path $Directory $Name
    # Without invariant TSC, which KVM offers a guest only where the host has it, Linux takes no TSC for reliable that it is not told to.
    # One that takes KVM for Hyper-V cannot be told that it was stopped, and takes a jump of its clock for a lockup.
    $cpu, $more = switch ($ClockSource) {
        'tsc' { 'host', ' tsc=reliable' }
        'hyperv_clocksource_tsc_page' { 'host,kvm=off,hv_time,hv_vpindex,hv_synic,hv_stimer,hv_relaxed', ' nosoftlockup' }
        default { 'host', '' }
    }
    $clock = "clocksource=$ClockSource$more"
    $guest = Open-Qemu -Name $Name -Directory $Directory -Options @(
        '-machine', 'microvm,acpi=off', '-cpu', $cpu, '-smp', '2', '-m', '128M'
        '-kernel', "$Image/kernel", '-initrd', "$Image/initramfs"
        '-append', "console=ttyS0 panic=-1 quiet pci=off acpi=off $SlowPart $clock"
        '-chardev', "socket,id=console,path=$files.console,server=on,wait=off,logfile=$files.messages", '-serial', 'chardev:console'
        '-chardev', "file,id=log,path=$files.log", '-device', 'isa-debugcon,iobase=0xe9,chardev=log'
        if ($Incoming) { '-incoming', $Incoming }
    )
    try {
        $guest.Console = Connect-Socket $guest "$files.console"
        $guest.Log = [IO.StreamReader]::new([IO.File]::Open("$files.log", 'Open', 'Read', 'ReadWrite'))
        $guest
    }
    catch {
        Close-Guest $guest
        throw
    }
}

<#
.SYNOPSIS
Starts a QEMU that is spoken to by QMP.
#>
function Open-Qemu {
    param(
        [Parameter(Mandatory)] [string] $Name,
        # Where its socket is to be.
        [Parameter(Mandatory)] [string] $Directory,
        # What it is told besides.
        [Parameter(Mandatory)] [string[]] $Options
    )
    $files = Join-Path $Directory $Name
    $arguments = '-nodefaults', '-no-user-config', '-display', 'none', '-name', $Name, '-accel', 'kvm', '-qmp', "unix:$files.qmp,server=on,wait=off" + $Options
    # What QEMU says is wanted where it fails.
    $start = [Diagnostics.ProcessStartInfo]::new('sh', [string[]] ('-c', 'exec qemu-system-x86_64 "$@" 2>"$0"', "$files.errors" + $arguments))
    $guest = $Guests[$Name] = [pscustomobject]@{
        Name       = $Name
        Session    = $null
        Process    = [Diagnostics.Process]::Start($start)
        Log        = $null
        Unfinished = ''
        Lines      = [Collections.Generic.List[string]]::new()
        Messages   = "$files.messages"
        Errors     = "$files.errors"
        Console    = $null
        Reader     = $null
        Writer     = $null
        Events     = [Collections.Generic.List[object]]::new()
    }
    try {
        $qmp = [Net.Sockets.NetworkStream]::new((Connect-Socket $guest "$files.qmp"), $true)
        $qmp.ReadTimeout = $Patience.TotalMilliseconds
        $guest.Reader = [IO.StreamReader]::new($qmp)
        $guest.Writer = [IO.StreamWriter]::new($qmp)
        $guest.Writer.AutoFlush = $true
        $null = $guest.Reader.ReadLine() # the greeting
        $null = Invoke-Qmp $guest qmp_capabilities
        # The guest's loops rest little: niced, they leave the processors to QEMU's other threads, and to those who watch them.
        renice -n 19 -p @((Invoke-Qmp $guest query-cpus-fast).'thread-id') | Out-Null
        $guest
    }
    catch {
        Close-Guest $guest
        throw
    }
}

<#
.SYNOPSIS
Runs a script where a guest is, and gives it the guest and any more arguments.
#>
function Use-Guest([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [scriptblock] $Script, [object[]] $Arguments = @()) {
    if (-not $Guest.Session) {
        return & $Script $Guest @Arguments
    }
    # A session passes objects on only one level deep, but texts whole.
    $text = Invoke-Command $Guest.Session -ArgumentList $Guest.Name, "$Script", $Arguments {
        param($Name, $Script, $Arguments)
        $result = @(& ([scriptblock]::Create($Script)) (Get-Guest $Name) @Arguments)
        [Management.Automation.PSSerializer]::Serialize($result, 5)
    }
    [Management.Automation.PSSerializer]::Deserialize($text)
}

<#
.SYNOPSIS
A guest that was opened here.
#>
function Get-Guest([Parameter(Mandatory)] [string] $Name) {
    $Guests[$Name]
}

<#
.SYNOPSIS
Makes a guest known here that was opened otherwise.
#>
function Add-Guest([Parameter(Mandatory)] $Guest) {
    $Guests[$Guest.Name] = $Guest
}

<#
.SYNOPSIS
Ends the QEMU of a guest.
#>
function Close-Guest([Parameter(Mandatory)] $Guest) {
    if (-not $Guest.Process.HasExited) {
        $Guest.Process.Kill()
        $Guest.Process.WaitForExit()
    }
    foreach ($stream in $Guest.Reader, $Guest.Console, $Guest.Log) {
        ${stream}?.Dispose()
    }
}

function Connect-Socket($Guest, [string] $Path) {
    $socket = [Net.Sockets.Socket]::new([Net.Sockets.AddressFamily]::Unix, [Net.Sockets.SocketType]::Stream, 'Unspecified')
    $endpoint = [Net.Sockets.UnixDomainSocketEndPoint]::new($Path)
    Wait-Until "$($Guest.Name) listens on $Path" {
        if ($Guest.Process.HasExited) {
            throw "The QEMU of $($Guest.Name) ended with exit code $($Guest.Process.ExitCode): $(Get-Content $Guest.Errors -Raw)"
        }
        try { $socket.Connect($endpoint); $true } catch [Net.Sockets.SocketException] { $false }
    }
    $socket
}

<#
.SYNOPSIS
Polls until a condition holds.
#>
function Wait-Until([Parameter(Mandatory)] [string] $What, [Parameter(Mandatory)] [scriptblock] $Condition) {
    $clock = [Diagnostics.Stopwatch]::StartNew()
    while (-not (& $Condition)) {
        if ($clock.Elapsed -gt $Patience) {
            throw "It took longer than $Patience until $What."
        }
        Start-Sleep -Milliseconds $PollMilliseconds
    }
}

<#
.SYNOPSIS
Sends a QMP command and returns its answer. Events that come before it are kept in the guest's Events.
#>
function Invoke-Qmp([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string] $Command, [hashtable] $Arguments = @{}) {
    $Guest.Writer.WriteLine((@{ execute = $Command; arguments = $Arguments } | ConvertTo-Json -Compress -Depth 5))
    while ($true) {
        $answer = Read-Qmp $Guest
        if ($answer.ContainsKey('return')) {
            return $answer.return
        }
        if ($answer.ContainsKey('error')) {
            throw "$($Guest.Name): ${Command}: $($answer.error.desc)"
        }
    }
}

function Read-Qmp($Guest) {
    $line = $Guest.Reader.ReadLine() ?? $(throw "The QEMU of $($Guest.Name) closed its QMP socket: $(Get-Content $Guest.Errors -Raw)")
    $message = $line | ConvertFrom-Json -AsHashtable
    if ($message.ContainsKey('event')) {
        $Guest.Events.Add($message)
    }
    $message
}

<#
.SYNOPSIS
Waits for the first QMP event of a name and returns its time, in ns of CLOCK_REALTIME.
#>
function Wait-QmpEvent([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string] $Name) {
    while (-not ($found = $Guest.Events.Where({ $_.event -eq $Name }, 'First'))) {
        $null = Read-Qmp $Guest
    }
    [decimal] $found[0].timestamp.seconds * 1000000000 + $found[0].timestamp.microseconds * 1000
}

<#
.SYNOPSIS
Whether KvmTsc waits for a guest's resume, with all threads in view that may run a vCPU: those that did, by debugfs, or that are named so, or else all.
#>
function Test-IsWatched([Parameter(Mandatory)] $Guest) {
    $process = $Guest.Process.Id
    $threads = @(Get-Content "/sys/kernel/debug/kvm/$process-*/vcpu*/pid").Trim("`0")
    if ($threads -contains '0') {
        $named = @(Get-ChildItem "/proc/$process/task" -Directory | Where-Object { (Get-Content "$_/comm" -ErrorAction Ignore) -like 'CPU */KVM' })
        $threads = $named.Count -eq $threads.Count ? $named.Name : '*'
    }
    $files = $threads | ForEach-Object { "/proc/$process/task/$_/status" }
    -not (Select-String '^TracerPid:\s+0$' $files -Quiet -ErrorAction Ignore) # a thread that has ended meanwhile runs no vCPU
}

<#
.SYNOPSIS
Waits until the outgoing migration of a guest has one of some statuses.
#>
function Wait-Migration([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string[]] $Status) {
    Wait-Until "the migration of $($Guest.Name) is $($Status -join ' or ')" {
        $now = Invoke-Qmp $Guest query-migrate
        if ($now['status'] -eq 'failed') {
            throw "The migration of $($Guest.Name) failed: $($now['error-desc'])"
        }
        $now['status'] -in $Status
    }
}

# Adds to Lines what the guest has logged meanwhile, the unfinished line left out.
function Read-GuestLog($Guest) {
    $lines = $Guest.Lines
    $lines.AddRange(($Guest.Unfinished + $Guest.Log.ReadToEnd()).Split("`n"))
    $Guest.Unfinished = $lines[-1]
    $lines.RemoveAt($lines.Count - 1)
}

<#
.SYNOPSIS
The lines of the guest's log since they were last received, the unfinished one left out.
#>
function Get-GuestLog([Parameter(Mandatory)] $Guest) {
    Read-GuestLog $Guest
    $Guest.Lines
}

<#
.SYNOPSIS
The same, which are received thereby.
#>
function Receive-GuestLog([Parameter(Mandatory)] $Guest) {
    Get-GuestLog $Guest
    $Guest.Lines.Clear()
}

<#
.SYNOPSIS
Waits until as many lines of the guest's log match, the first ones left out. Each is looked at once: a guest whose host is busy logs many, and looking at them all again keeps it from the rest.
#>
function Wait-GuestLog([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string] $Pattern, [int] $Count = 1, [int] $Skip = 0) {
    $seen = @{ Lines = $Skip; Matches = 0 }
    try {
        Wait-Until "$($Guest.Name) logs $Pattern" {
            Read-GuestLog $Guest
            while ($seen.Lines -lt $Guest.Lines.Count) {
                $seen.Matches += $Guest.Lines[$seen.Lines++] -match $Pattern
            }
            $seen.Matches -ge $Count
        }
    }
    catch {
        throw (@("$_ Its log and its console end with:") + (Get-GuestLog $Guest | Select-Object -Last 10) + (Get-Content $Guest.Messages -Tail 10) -join "`n")
    }
}

<#
.SYNOPSIS
Has the guest answer, and returns how many lines its log has then: whatever it did before it was asked is in these.
#>
function Sync-GuestLog([Parameter(Mandatory)] $Guest) {
    $lines = @(Get-GuestLog $Guest).Count
    $null = $Guest.Console.Send([Text.Encoding]::ASCII.GetBytes("clocksource`n"))
    Wait-GuestLog $Guest '^clocksource ' -Skip $lines
    @(Get-GuestLog $Guest).Count
}

<#
.SYNOPSIS
Asks the guest what it takes its time from, and for its kernel's warnings and messages about clocks: once for what is received of its log. From then on it
reads its clocks in bursts, or, busy, without a rest.
#>
function Get-GuestReport([Parameter(Mandatory)] $Guest, [switch] $Busy) {
    $requests = $Busy ? 'clocksource', 'log', 'busy' : 'rest', 'clocksource', 'log' # it answers sooner while it rests
    $null = $Guest.Console.Send([Text.Encoding]::ASCII.GetBytes(($requests -join "`n") + "`n"))
    Wait-GuestLog $Guest '^end log'
    $answer = @(Get-GuestLog $Guest)
    @{
        ClockSource = ($answer -match '^clocksource ')[-1].Split(' ')[1]
        # That an interrupt took long says that the host is slow, nothing about clocks.
        Messages    = @($answer -match '^log ' -notmatch 'hrtimer: interrupt took')
    }
}

Export-ModuleMember Open-Guest, Open-Qemu, Add-Guest, Get-Guest, Use-Guest, Close-Guest, Invoke-Qmp, Wait-QmpEvent, Wait-Migration, Wait-Until, Test-IsWatched, Receive-GuestLog, Wait-GuestLog, Sync-GuestLog, Get-GuestReport
