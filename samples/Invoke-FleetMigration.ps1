#Requires -Version 7.6
<#
.SYNOPSIS
Migrates the clocks of many VMs between many hosts, as a plan says.
.DESCRIPTION
Opens a session to each host, looks at every migration of the plan (Test-KvmTscMigration), and stops before anything is changed if one of them
would be refused. Else it does all of them, several at once (Invoke-KvmTscMigration). One that fails does not stop the others.

Writes a row for each line of the plan, as it ends. Outcome is

Migrated   done: the row has the downtime, the residuals that were measured, and the bound that they should lie within
Refused    it would not work, for the reason in Error; nothing was changed
Failed     it was refused or failed when it was done, for the reason in Error
NotTried   because others were refused, or with -WhatIf

The exit status is 0 if all were migrated, or would be with -WhatIf; 1 if nothing was changed, because some were refused; 2 if some were not
migrated and others may have been.
.EXAMPLE
./Invoke-FleetMigration.ps1 plan.csv -WhatIf

Only looks. The plan has the columns Source, SourceHost, Destination and DestinationHost; a host that is left empty is this one.
.EXAMPLE
./Invoke-FleetMigration.ps1 plan.csv -AtResume -TimeoutSeconds 600 | Export-Csv outcome.csv

Waits at the destinations for their VMMs to resume them, for all of them at once.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    # Objects with the properties Source, SourceHost, Destination and DestinationHost, or CSV files with such columns.
    [Parameter(Mandatory, Position = 0)]
    [object[]] $Plan,

    # Sessions that are there already. All others are opened by SSH, and closed at the end: one to a host, and with -AtResume another one for
    # each VM that is waited for.
    [Management.Automation.Runspaces.PSSession[]] $Session = @(),

    # What is imported in sessions that are opened: KvmTsc where it is installed on the hosts, else the path of its manifest there.
    [string] $Module = 'KvmTsc',

    # How many VMs are migrated at once.
    [ValidateRange(1, 1000)]
    [int] $ThrottleLimit = 8,

    # Does what can be done, although others were refused.
    [switch] $SkipRefused,

    # As for Invoke-KvmTscMigration.
    [ValidateSet('Count', 'Exclude')]
    [string] $Downtime = 'Count',
    [object] $MaximumDowntime,
    [switch] $Force,
    [switch] $AtResume,
    [int] $TimeoutSeconds = 300
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
if (-not (Get-Module KvmTsc)) {
    $staged = "$PSScriptRoot/../out/KvmTsc/KvmTsc.psd1"
    Import-Module $(if (Test-Path $staged) { $staged } else { 'KvmTsc' })
}

# A host's session, or why there is none. A session runs one command at a time, so that whoever waits there needs one of its own.
function Open-Session([string] $HostName, [string] $Purpose, [string] $Module) {
    $key = "$HostName $Purpose"
    if (-not $sessions.ContainsKey($key)) {
        $sessions[$key] = @{ Session = $null; Error = $null }
        try {
            $opened.Add(($sessions[$key].Session = New-PSSession -HostName $HostName))
            Invoke-Command $sessions[$key].Session { Import-Module $using:Module } | Out-Null
        }
        catch {
            $sessions[$key].Error = "${HostName}: $_"
        }
    }
    $sessions[$key]
}

# Why a migration would be refused; nothing if it would not.
function Get-Refusal($Pair) {
    if ($Pair.Error) {
        return $Pair.Error
    }
    $test = $Pair | Test-KvmTscMigration @judgement -ErrorVariable failed -ErrorAction SilentlyContinue
    if ($failed) {
        return "$($failed[0])"
    }
    ($test.Findings | Where-Object Severity -EQ Error | ForEach-Object Evidence) -join ' '
}

function ConvertTo-Row($Pair, [string] $Outcome, $Result, [string] $Reason) {
    $count[$Outcome]++
    [pscustomobject]@{
        Source                   = $Pair.Source
        SourceHost               = $Pair.SourceHost
        Destination              = $Pair.Destination
        DestinationHost          = $Pair.DestinationHost
        Outcome                  = $Outcome
        DowntimeSeconds          = $Result ? $Result.DowntimeNanoseconds / 1e9 : $null
        ResidualNanoseconds      = ${Result}?.ResidualNanoseconds
        ClockResidualNanoseconds = ${Result}?.ClockResidualNanoseconds
        ErrorBoundNanoseconds    = ${Result}?.ErrorBoundNanoseconds
        Error                    = $Reason
    }
}

$lines = $Plan | ForEach-Object { $_ -is [string] ? (Import-Csv $_) : $_ } | Select-Object Source, SourceHost, Destination, DestinationHost
$judgement = @{ Downtime = $Downtime; MaximumDowntime = $MaximumDowntime; Force = $Force; AtResume = $AtResume }
$sessions = @{ ' ' = @{ Session = $null; Error = $null } } # this host needs none
foreach ($given in $Session) {
    $sessions["$($given.ComputerName) "] = @{ Session = $given; Error = $null }
}
$opened = [Collections.Generic.List[Management.Automation.Runspaces.PSSession]]::new()
$count = @{ Migrated = 0; Refused = 0; Failed = 0; NotTried = 0 }
try {
    # What an outcome is known by: the destination and the name that its session has for the host.
    $pairs = [ordered]@{}
    foreach ($line in $lines) {
        $from = Open-Session -HostName $line.SourceHost -Module $Module
        $to = Open-Session -HostName $line.DestinationHost -Purpose ($AtResume -and $line.DestinationHost ? $line.Destination : '') -Module $Module
        $key = "$($line.Destination) on $(${to}.Session?.ComputerName ?? $line.DestinationHost)"
        if ($pairs.Contains($key)) {
            throw "The plan has the destination $key twice."
        }
        $pairs[$key] = $line | Select-Object *, @{ n = 'SourceSession'; e = { $from.Session } }, @{ n = 'DestinationSession'; e = { $to.Session } },
            @{ n = 'Error'; e = { $from.Error ?? $to.Error } }
    }

    foreach ($key in @($pairs.Keys)) {
        if ($reason = Get-Refusal $pairs[$key]) {
            ConvertTo-Row -Pair $pairs[$key] -Outcome Refused -Reason $reason
            $pairs.Remove($key)
        }
    }

    if (($SkipRefused -or $count.Refused -eq 0) -and $PSCmdlet.ShouldProcess("$($pairs.Count) VMs", 'Migrate clocks')) {
        # Results and errors, in the order in which they come.
        @($pairs.Values) | Invoke-KvmTscMigration @judgement -TimeoutSeconds $TimeoutSeconds -ThrottleLimit $ThrottleLimit -Confirm:$false -ErrorAction Continue 2>&1 |
            ForEach-Object {
                if ($_ -is [Management.Automation.ErrorRecord]) {
                    $key = "$($_.TargetObject.VMName) on $($_.TargetObject.ComputerName)"
                    ConvertTo-Row -Pair $pairs[$key] -Outcome Failed -Reason "$_"
                }
                else {
                    $key = "$($_.VMName) on $($_.PSObject.Properties['PSComputerName']?.Value)"
                    ConvertTo-Row -Pair $pairs[$key] -Outcome Migrated -Result $_
                }
                $pairs.Remove($key)
            }
    }

    $pairs.Values | ForEach-Object { ConvertTo-Row -Pair $_ -Outcome NotTried }
}
finally {
    $opened | Remove-PSSession -WhatIf:$false
}
exit ($count.Refused -gt 0 -and -not $SkipRefused ? 1 : $count.Refused + $count.Failed -gt 0 ? 2 : 0)
