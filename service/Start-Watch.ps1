# What kvmtsc-watch.service runs: Watch-KvmClock, each event as a line of JSON, with its priority for the journal (sd-daemon(3)).
# It is given what /etc/kvmtsc/policy.psd1 says, if that is there, and else gives every guest its time back.
$ErrorActionPreference = 'Stop'
Import-Module "$PSScriptRoot/../KvmTsc.psd1"

$given = @{ Correct = $true; Confirm = $false }
if ($env:STATE_DIRECTORY) { $given.StatePath = $env:STATE_DIRECTORY }
$policy = '/etc/kvmtsc/policy.psd1'
if (Test-Path $policy) { $given.PolicyPath = $policy }
$metrics = '/var/lib/prometheus/node-exporter' # the node exporter's of Debian
if (Test-Path $metrics) { $given.MetricsPath = "$metrics/kvmtsc.prom" }

$warnings = 'Refused', 'MasterClockLost', 'EventsLost', 'NotWritten'
Watch-KvmClock @given | ForEach-Object {
    $priority = $_.Event -in $warnings ? 4 : 6
    [Console]::Out.WriteLine("<$priority>$(ConvertTo-Json $_ -Compress)")
}
