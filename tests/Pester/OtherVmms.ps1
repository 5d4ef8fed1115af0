# The stand-ins for VMMs that are not QEMU (tests/Vmm): started, spoken to by their APIs, and what their guests have logged. Dot-source it after Common.ps1 and Watching.ps1.
$script:processes = @{}
$script:programs = if (Get-Command cc -CommandType Application -ErrorAction Ignore) { & "$PSScriptRoot/../Vmm/build" }

function Assert-Built {
    if (-not $programs) {
        Set-ItResult -Skipped -Because 'a C compiler is missing: sudo apt-get install gcc libc6-dev'
    }
}

function Get-SocketPath([string] $Name) {
    "$TestDrive/$Name.sock"
}

# Starts a VMM as its command line has it, and waits for its API.
function Open-Vmm([hashtable] $Vmm, [string] $Options) {
    $socket = Get-SocketPath $Vmm.Name
    $line = switch ($Vmm.Program) {
        firecracker { "--id $($Vmm.Name) --api-sock $socket" }
        cloud-hypervisor { "--api-socket path=$socket" }
        crosvm { "run --name $($Vmm.Name) -s $socket" }
        lkvm { "run --name $($Vmm.Name) --sock $socket" }
    }
    $process = Start-Process "$programs/$($Vmm.Program)" "$line $Options" -PassThru -RedirectStandardError "$TestDrive/$($Vmm.Name).errors"
    $processes[$Vmm.Name] = $process
    $null = $process.Handle # else its exit code is not kept
    Wait-Until "$($Vmm.Name) listens" {
        if ($process.HasExited) { throw "$($Vmm.Name) ended with $($process.ExitCode): $(Get-Content "$TestDrive/$($Vmm.Name).errors" -Raw)" }
        Test-Path $socket
    }
}

# A connection to its API, whose socket is there before it listens to it.
function Connect-Vmm([string] $Name) {
    $made = @{}
    Wait-Until "$Name listens" {
        $socket = [Net.Sockets.Socket]::new([Net.Sockets.AddressFamily]::Unix, [Net.Sockets.SocketType]::Stream, 'Unspecified')
        try {
            $socket.Connect([Net.Sockets.UnixDomainSocketEndPoint]::new((Get-SocketPath $Name)))
            $made.Socket = $socket
            $true
        }
        catch {
            $socket.Dispose()
            if ($_.Exception.InnerException.SocketErrorCode -ne 'ConnectionRefused' -or $processes[$Name].HasExited) { throw }
            $false
        }
    }
    $made.Socket
}

# A request, as `curl --unix-socket` sends it, which takes half a second to start on an emulated host.
function Invoke-Vmm([string] $Name, [string] $Path, [string] $Method = 'GET', [string] $Body) {
    $socket = Connect-Vmm $Name
    try {
        $null = $socket.Send([Text.Encoding]::ASCII.GetBytes("$Method /$Path HTTP/1.1`r`nContent-Length: $($Body.Length)`r`n`r`n$Body"))
        $answer = [IO.StreamReader]::new([Net.Sockets.NetworkStream]::new($socket)).ReadToEnd()
    }
    finally {
        $socket.Dispose()
    }
    if ($answer -notmatch '^HTTP/1.1 20[04] ') {
        throw "$Name, ${Path}: $answer $(Get-Content "$TestDrive/$Name.errors" -Raw)"
    }
    ($answer -split "`r`n`r`n", 2)[1].Split("`n")
}

function Close-Vmm([string] $Name) {
    $process = $processes[$Name]
    if ($process -and -not $process.HasExited) {
        $process.Kill()
        $process.WaitForExit()
    }
    Remove-Item (Get-SocketPath $Name) -ErrorAction Ignore
}

# What the guest has logged: its vCPUs, each with its counts and events.
function Get-Log([string] $Name) {
    $vcpus = [ordered]@{}
    foreach ($line in Invoke-Vmm $Name log) {
        switch -Regex ($line) {
            '^kvmclock_ctrl (\d+)$' { $errno = [int] $Matches[1] }
            '^set_clock (\d+)$' { $setClockTicks = [decimal] $Matches[1] }
            '^clock_away (\d+) (\d+)$' { $clockAway = [decimal[]] $Matches[1, 2] }
            '^vcpu (?<id>\d+) samples (?<samples>\d+) backwards (?<clock>\d+) (?<tsc>\d+) mismatches (?<mismatches>\d+) unpaired (?<unpaired>\d+) stopped (?<stopped>\d+)$' {
                $vcpus["$($Matches.id)"] = [pscustomobject]@{
                    Samples    = [long] $Matches.samples
                    Backwards  = [long] $Matches.clock + [long] $Matches.tsc
                    Mismatches = [long] $Matches.mismatches
                    Unpaired   = [long] $Matches.unpaired
                    Stopped    = [long] $Matches.stopped
                    TscAway    = $null
                    Last       = $null
                    Events     = [Collections.Generic.List[object]]::new()
                }
            }
            '^vcpu (\d+) tsc_away (\d+) (\d+)$' { $vcpus[$Matches[1]].TscAway = [decimal[]] $Matches[2, 3] }
            '^vcpu (\d+) last (\d+) (\d+) (\d+)$' {
                $vcpus[$Matches[1]].Last = [pscustomobject]@{ Real = [decimal] $Matches[2]; Tsc = [decimal] $Matches[3]; Clock = [decimal] $Matches[4] }
            }
            '^vcpu (\d+) event (.+)$' {
                $numbers = [decimal[]] $Matches[2].Split(' ')
                $vcpus[$Matches[1]].Events.Add([pscustomobject]@{ Real = $numbers[3] - $numbers[0]; Tsc = $numbers[4] - $numbers[1]; Clock = $numbers[5] - $numbers[2] })
            }
        }
    }
    [pscustomobject]@{ Errno = $errno; SetClockTicks = $setClockTicks; ClockAway = $clockAway; Vcpus = @($vcpus.Values) }
}

# What each vCPU saw of the longest time that it stood still: what its clocks lost in it, in ns, and all that they parted since. Beside it what the VMM knows, at least and at
# most: how long it was from when it read what it wrote last, to that. KVM takes TSCs that are written within a second for one, so that it may have been any vCPU's.
function Get-Loss([string] $Name) {
    $frequency = Get-KvmTscFrequency $Name -VcpuId 0
    $log = Get-Log $Name
    $tscAway = $log.Vcpus.TscAway | Measure-Object -Minimum -Maximum
    foreach ($vcpu in $log.Vcpus) {
        $gap = $vcpu.Events | Sort-Object Real | Select-Object -Last 1
        $sum = @{ Real = 0d; Clock = 0d }
        foreach ($jump in $vcpu.Events) { $sum.Real += $jump.Real; $sum.Clock += $jump.Clock }
        [pscustomobject]@{
            Away      = $gap.Real
            Clock     = $gap.Real - $gap.Clock
            Tsc       = $gap.Real - $gap.Tsc * 1000000 / [decimal] $frequency.TscKHz
            ClockAll  = $sum.Real - $sum.Clock
            ClockAway = $log.ClockAway
            TscAway   = [decimal[]] ($tscAway.Minimum, $tscAway.Maximum)
            SetClock  = $log.SetClockTicks * 1000000 / [decimal] $frequency.HostTscKHz
            Stopped   = $vcpu.Stopped
            Backwards = $vcpu.Backwards
            Events    = @($vcpu.Events | Select-Object -Last 5)
        }
    }
}

# The guest knows CLOCK_REALTIME of the host by its rate, and its TSC to a kHz.
function Assert-Loss([object[]] $Loss, [string] $Clock, [string] $What) {
    $Loss | Should-BeCollection -Count 2
    foreach ($vcpu in $Loss) {
        $tolerance = 30000 + $vcpu.Away * 1e-6
        $lost = $vcpu.$What
        $because = "all that it saw is $($vcpu | ConvertTo-Json -Compress)"
        switch ($Clock) {
            None { [math]::Abs($lost) | Should-BeLessThan $tolerance -Because $because }
            Near { [math]::Abs($lost) | Should-BeLessThan ($tolerance + $vcpu.SetClock) -Because $because } # by as much as KVM reads the TSC and CLOCK_REALTIME apart
            Pause {
                $least, $most = $vcpu."${What}Away"
                $lost | Should-BeGreaterThan ($least - $tolerance) -Because $because
                $lost | Should-BeLessThan ($most + $tolerance) -Because $because
            }
            More { $lost | Should-BeGreaterThan $vcpu.Away -Because $because }
        }
    }
}

# What a VMM is asked for to write a snapshot, and to be its VM again: paused as yet, unless it knows no other way.
function Save-Vmm([hashtable] $Vmm) {
    $directory = "$TestDrive/$($Vmm.Name).snapshot"
    $null = New-Item $directory -ItemType Directory -Force
    switch ($Vmm.Program) {
        firecracker { Invoke-Vmm $Vmm.Name snapshot/create -Method PUT -Body "{`"snapshot_type`": `"Full`", `"snapshot_path`": `"$directory/state.json`", `"mem_file_path`": `"$directory/memory-ranges`"}" }
        cloud-hypervisor { Invoke-Vmm $Vmm.Name api/v1/vm.snapshot -Method PUT -Body "{`"destination_url`": `"file://$directory`"}" }
        crosvm { Invoke-Vmm $Vmm.Name "snapshot?$directory" }
    }
}

function Restore-Vmm([hashtable] $Vmm) {
    $directory = "$TestDrive/$($Vmm.Name).snapshot"
    Open-Vmm $Vmm (@{
            'firecracker'      = ''
            'cloud-hypervisor' = "$($Vmm.Boot -match '--older' ? '--older' : '--prefault-seconds 4') --restore source_url=file://$directory"
            'crosvm'           = "--restore $directory $($Vmm.RunsAtOnce ? '' : '--suspended')"
        }[$Vmm.Program])
    if ($Vmm.Program -eq 'firecracker') {
        $backend = "{`"backend_path`": `"$directory/memory-ranges`", `"backend_type`": `"File`"}"
        $null = Invoke-Vmm $Vmm.Name snapshot/load -Method PUT -Body "{`"snapshot_path`": `"$directory/state.json`", `"mem_backend`": $backend$($Vmm.Restored -eq 'Near' ? ', "clock_realtime": true' : '')}"
    }
}

function Suspend-Vmm([hashtable] $Vmm) {
    $null = switch ($Vmm.Program) {
        firecracker { Invoke-Vmm $Vmm.Name vm -Method PATCH -Body '{"state": "Paused"}' }
        cloud-hypervisor { Invoke-Vmm $Vmm.Name api/v1/vm.pause -Method PUT }
        default { Invoke-Vmm $Vmm.Name pause }
    }
}

function Resume-Vmm([hashtable] $Vmm) {
    $null = switch ($Vmm.Program) {
        firecracker { Invoke-Vmm $Vmm.Name vm -Method PATCH -Body '{"state": "Resumed"}' }
        cloud-hypervisor { Invoke-Vmm $Vmm.Name api/v1/vm.resume -Method PUT }
        default { Invoke-Vmm $Vmm.Name resume }
    }
}

# Until a watch has told an event of each of some VMs, from those on that were seen.
function Wait-ToldOfAll([hashtable] $Watch, [string] $What, [string[]] $Name) {
    foreach ($one in $Name) {
        $told = [Collections.Generic.List[string]]::new()
        try {
            Wait-Until "the watch tells that $one is $What" {
                $told.Clear()
                Get-Told $Watch $Watch.Seen | Where-Object VMName -EQ $one | ForEach-Object { $told.Add("$($_.Event) $($_.Reason)".Trim()) }
                $told -contains $What
            }
        }
        catch {
            throw "$_ It told: $($told -join ', ')"
        }
    }
}

# Until its vCPUs' threads are held at their next entry into the guest.
function Wait-Held([string] $Name) {
    Wait-Until "$Name is held" {
        @(Get-KvmVcpu $Name -ErrorAction Ignore | Select-Held).Count -eq 2
    }
}

function Wait-Sample([string] $Name) {
    $before = (Get-Log $Name).Vcpus.Samples
    Wait-Until "the guest of $Name runs" {
        $now = (Get-Log $Name).Vcpus.Samples
        $now[0] -gt $before[0] -and $now[1] -gt $before[1]
    }
}
