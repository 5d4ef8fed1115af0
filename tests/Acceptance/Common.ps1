# What the files of checks share. Pester 5 is enough for them, which knows no Should-Be.
Import-Module "$PSScriptRoot/../KvmTsc.psd1"

# Why no clock can be checked here; nothing where one can.
function Get-Lack {
    try {
        if (-not (Get-KvmHost).CanMigrateTsc) {
            'clocks cannot be migrated on this host'
        }
    }
    catch {
        "$_"
    }
}

# Skips a check for what is lacking, if anything is.
function Skip-For([string] $Lack) {
    if ($Lack) {
        Set-ItResult -Skipped -Because $Lack
    }
}

# As long as a job does not fail meanwhile.
function Wait-Until([string] $What, [scriptblock] $Condition, [Management.Automation.Job] $Job) {
    $end = [datetime]::UtcNow.AddMinutes(2)
    while (-not (& $Condition)) {
        if ($Job -and $Job.State -eq 'Failed') {
            $Job | Receive-Job
        }
        if ([datetime]::UtcNow -gt $end) {
            throw "In two minutes it did not come about that $What."
        }
        Start-Sleep -Milliseconds 50
    }
}
