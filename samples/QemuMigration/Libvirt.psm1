#Requires -Version 7.6
# Domains of libvirt that run lab/guest, operated by virsh alone. What Qemu.psm1 and ClockLog.psm1 do with the guest of a QEMU they do with a domain's: its log, its
# console and its process are found anew by Connect-Domain, since many operations make a new process of it.

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $true
Import-Module "$PSScriptRoot/Qemu.psm1" -Verbose:$false
$env:LIBVIRT_DEFAULT_URI = 'qemu:///system'

$Boot = '/var/lib/libvirt/boot'
$Disks = '/var/lib/libvirt/images'
$Hook = '/etc/libvirt/hooks/qemu'
$Logs = '/var/log/libvirt/clocks' # a domain's AppArmor profile lets its QEMU write /var/log/libvirt/**/NAME.log
$KernelArguments = 'console=ttyS0 panic=-1 quiet pci=off acpi=off mitigations=off nokaslr audit=0 apparmor=0 cryptomgr.notests no_timer_check init_on_alloc=0 noxsave random.trust_cpu=on'

<#
.SYNOPSIS
Has libvirt running on this host, the guest where domains may read it, and listens to what QEMUs tell, until Clear-Libvirt.
#>
function Initialize-Libvirt([Parameter(Mandatory)] [string] $Image) {
    & "$PSScriptRoot/../../lab/libvirt"
    Copy-Item "$Image/kernel" "$Boot/clocklog.kernel"
    Copy-Item "$Image/initramfs" "$Boot/clocklog.initramfs"
    Remove-Item $Logs -Recurse -Force -ErrorAction Ignore # of one that was killed
    $null = New-Item $Logs -ItemType Directory -Force
    chown libvirt-qemu $Logs
    $script:Events = Start-Process stdbuf -ArgumentList '-oL', 'virsh', '-q', 'qemu-monitor-event', '--loop' -RedirectStandardOutput "$Logs/events" -PassThru
}

<#
.SYNOPSIS
Removes what Initialize-Libvirt has made.
#>
function Clear-Libvirt {
    $script:Events.Kill()
    Remove-Item $Logs, "$Boot/clocklog.*" -Recurse -Force
}

<#
.SYNOPSIS
Has libvirt call a script for what becomes of its domains, until Clear-LibvirtHook. It is given the environment of this PowerShell, which has its module elsewhere than for all users.
#>
function Add-LibvirtHook([Parameter(Mandatory)] [string] $Path, [string] $ModulePath) {
    if (Test-Path $Hook) {
        throw "This host has a hook of its own: $Hook."
    }
    $environment = @{ PATH = $env:PATH; DOTNET_ROOT = $env:DOTNET_ROOT; PSModulePath = $ModulePath }
    $first, $rest = Get-Content $Path
    Set-Content $Hook @($first; ($environment.Keys.ForEach({ "export $_='$($environment[$_])'" })); $rest)
    chmod 755 $Hook
    Invoke-LibvirtReload
}

<#
.SYNOPSIS
Removes it.
#>
function Clear-LibvirtHook {
    Remove-Item $Hook
    Invoke-LibvirtReload
}

# libvirtd looks for hooks when it starts, and then.
function Invoke-LibvirtReload {
    kill -HUP (Get-Content /run/libvirtd.pid)
    Start-Sleep -Seconds 1
    $PSNativeCommandUseErrorActionPreference = $false
    Wait-Until 'libvirt answers' {
        $null = virsh version 2>&1
        $LASTEXITCODE -eq 0
    }
}

<#
.SYNOPSIS
Defines and starts a domain with the guest. Its disk, if it has one, is for its snapshots.
#>
function Open-Domain {
    param(
        [Parameter(Mandatory)] [string] $Name,
        [string] $ClockSource = 'kvm-clock',
        [switch] $WithoutDisk
    )
    $disk = ''
    if (-not $WithoutDisk) {
        qemu-img create -q -f qcow2 "$Disks/$Name.qcow2" 512M
        $disk = "<disk type='file'><driver name='qemu' type='qcow2'/><source file='$Disks/$Name.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    }
    $more = $ClockSource -eq 'tsc' ? ' tsc=reliable' : ''
    $file = New-TemporaryFile
    Set-Content $file @"
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>$Name</name>
  <memory unit='MiB'>128</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>$Boot/clocklog.kernel</kernel>
    <initrd>$Boot/clocklog.initramfs</initrd>
    <cmdline>$KernelArguments clocksource=$ClockSource$more</cmdline>
  </os>
  <cpu mode='host-passthrough'/>
  <devices>
    $disk
    <serial type='pty'><log file='/var/log/libvirt/qemu/$Name.console.log'/></serial>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-chardev'/>
    <qemu:arg value='file,id=log,path=$Logs/$Name.log,append=on'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='isa-debugcon,iobase=0xe9,chardev=log'/>
  </qemu:commandline>
</domain>
"@
    $null = Invoke-Virsh define, $file.FullName
    Remove-Item $file
    # The log of one that has moved away since says that the guest runs. What is sent to its console before it does has the port take nothing any more.
    Remove-Item "$Logs/$Name.log" -ErrorAction Ignore
    $null = Invoke-Virsh start, $Name
    Get-Domain $Name
}

<#
.SYNOPSIS
A domain that runs, or that has just come here.
#>
function Get-Domain([Parameter(Mandatory)] [string] $Name) {
    $guest = [pscustomobject]@{
        Name       = $Name
        Session    = $null
        Process    = $null
        Log        = [IO.StreamReader]::new([IO.File]::Open("$Logs/$Name.log", 'OpenOrCreate', 'Read', 'ReadWrite'))
        Unfinished = ''
        Lines      = [Collections.Generic.List[string]]::new()
        Messages   = "/var/log/libvirt/qemu/$Name.console.log"
        Console    = $null
    }
    Add-Guest $guest
    Connect-Domain $guest
    $guest
}

<#
.SYNOPSIS
A domain's process may be another one, and its console with it.
#>
function Connect-Domain([Parameter(Mandatory)] $Guest) {
    $Guest.Process = Get-Process -Id (Get-Content "/run/libvirt/qemu/$($Guest.Name).pid")
    $null = ${Guest}?.Console?.Dispose()
    # QEMU reads from a terminal that somebody has open, and looks once a second whether anybody has.
    $stream = [IO.FileStream]::new("$(virsh ttyconsole $Guest.Name)".Trim(), 'Open', 'Write', 'ReadWrite', 0)
    $Guest.Console = $stream | Add-Member Send -MemberType ScriptMethod -PassThru -Value { param([byte[]] $Bytes) $this.Write($Bytes) }
    # The guest's loops rest little: niced, they leave the processors to libvirt, and to those who watch them.
    renice -n 19 -p (Get-KvmVcpu -ProcessId $Guest.Process.Id).ThreadId | Out-Null
}

<#
.SYNOPSIS
Ends a domain, and what is left of it.
#>
function Close-Domain([Parameter(Mandatory)] $Guest) {
    $PSNativeCommandUseErrorActionPreference = $false # it may have ended
    virsh destroy $Guest.Name *>$null
    virsh undefine $Guest.Name --managed-save --snapshots-metadata *>$null
    $Guest.Console.Dispose()
    $Guest.Log.Dispose()
    Remove-Item "$Logs/$($Guest.Name).log", "$Disks/$($Guest.Name).qcow2", $Guest.Messages -Force -ErrorAction Ignore
}

<#
.SYNOPSIS
Runs virsh, and returns how long that took, in seconds.
#>
function Invoke-Virsh([Parameter(Mandatory)] [string[]] $Arguments) {
    $PSNativeCommandUseErrorActionPreference = $false # an error has what it said
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $said = & virsh -q @Arguments 2>&1
    $seconds = $clock.Elapsed.TotalSeconds
    if ($LASTEXITCODE) {
        throw "virsh $Arguments`: $said"
    }
    $seconds
}

<#
.SYNOPSIS
Waits for a domain's first QMP event of a name since a moment, and returns its time; both in ns of CLOCK_REALTIME. Null, if it is not waited for and there is none.
#>
function Get-DomainEvent([Parameter(Mandatory)] $Guest, [Parameter(Mandatory)] [string] $Name, [decimal] $Since, [switch] $Wait) {
    $found = @{ Time = $null }
    $look = {
        $times = Select-String "^event $Name at (\d+)\.(\d+) for domain '$($Guest.Name)'" "$Logs/events" | ForEach-Object {
            [decimal] $_.Matches[0].Groups[1].Value * 1000000000 + [decimal] $_.Matches[0].Groups[2].Value * 1000
        }
        $found.Time = $times | Where-Object { $_ -ge $Since } | Select-Object -First 1
        $null -ne $found.Time
    }
    if ($Wait) { Wait-Until "$($Guest.Name) has had the event $Name" $look } else { $null = & $look }
    $found.Time
}

Export-ModuleMember Initialize-Libvirt, Clear-Libvirt, Add-LibvirtHook, Clear-LibvirtHook, Open-Domain, Get-Domain, Connect-Domain, Close-Domain, Invoke-Virsh, Get-DomainEvent
