#Requires -Version 7.6
<#
.SYNOPSIS
How much longer virsh takes where a domain is watched.
.DESCRIPTION
On a KVM host with libvirt, as root; docs/lab.md has how the lab has it. A domain of lab/guest is taken away and brought back by virsh again and again, in turns without a
watch and with Watch-KvmClock -Correct in a PowerShell of its own. For each operation: the medians of what virsh took in all, in seconds, and the least and the most.
.EXAMPLE
./Measure-VirshTime.ps1 Suspend -Turns 15
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)]
    [ValidateSet('Suspend', 'Save', 'ManagedSave', 'Snapshot')]
    [string[]] $Operation = @('Suspend', 'Save', 'ManagedSave', 'Snapshot'),

    # How often each is done without a watch, and with one.
    [int] $Turns = 5
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
$Root = "$PSScriptRoot/../.."
Import-Module "$Root/out/KvmTsc/KvmTsc.psd1", "$Root/samples/QemuMigration/Qemu.psm1", "$Root/samples/QemuMigration/Libvirt.psm1", "$PSScriptRoot/../Bench.psm1"
$Name = 'time01'
$Saved = "/var/lib/libvirt/qemu/save/$Name.saved"
$Directory = (New-Item "$([IO.Path]::GetTempPath())/virsh-time-$PID" -ItemType Directory).FullName
$Commands = @{
    Suspend     = ('suspend', $Name), ('resume', $Name)
    Save        = ('save', $Name, $Saved), ('restore', $Saved)
    ManagedSave = ('managedsave', $Name), ('start', $Name)
    Snapshot    = ('snapshot-create-as', $Name, 'one'), ('snapshot-revert', $Name, 'one'), ('snapshot-delete', $Name, 'one')
}

function Measure-Operation([string] $Kind) {
    $seconds = 0
    foreach ($command in $Commands[$Kind]) {
        $seconds += Invoke-Virsh $command
        Start-Sleep -Seconds 1 # a pause that is long enough to be seen, and what the watch has to do after it
    }
    Connect-Domain $guest
    $seconds
}

# The same under a watch, which has to give back what that takes.
function Measure-Watched([string] $Kind) {
    $log = "$Directory/$([guid]::NewGuid())"
    $watch = Open-Watch $log '"$($_.Event) $($_.Reason)" >>$Log' -Options '-Correct'
    try {
        Wait-Until 'it watches' { (Test-Path $log) -and (Select-String '^Found' $log -Quiet) }
        Measure-Operation $Kind
        Wait-Until 'it has given back what was lost' { Select-String '^Corrected' $log -Quiet }
    }
    finally {
        Close-Watch $watch
    }
    $refused = @(Get-Content $log) -match '^Refused'
    if ($refused) {
        throw "The watch said: $refused"
    }
}

Initialize-Libvirt (& "$Root/lab/guest/build")
$guest = Open-Domain $Name
try {
    Wait-GuestLog $guest '^start '
    foreach ($kind in $Operation) {
        $without, $with = @(), @()
        foreach ($turn in 1..$Turns) {
            $without += Measure-Operation $kind
            $with += Measure-Watched $kind
        }
        [pscustomobject]@{
            Operation = $kind
            Turns     = $Turns
            Without   = '{0:n2} ({1:n2} to {2:n2})' -f (Get-Median $without), ($without | Measure-Object -Minimum).Minimum, ($without | Measure-Object -Maximum).Maximum
            With      = '{0:n2} ({1:n2} to {2:n2})' -f (Get-Median $with), ($with | Measure-Object -Minimum).Minimum, ($with | Measure-Object -Maximum).Maximum
            More      = '{0:p1}' -f ((Get-Median $with) / (Get-Median $without) - 1)
        }
    }
}
finally {
    Close-Domain $guest
    Clear-Libvirt
    Remove-Item $Directory -Recurse
}
