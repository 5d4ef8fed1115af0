BeforeAll {
    $script:bench = "$PSScriptRoot/../../bench"
    $script:rows = (Import-PowerShellDataFile "$bench/Goals.psd1").Rows
}

Describe 'The benchmark' {
    It 'has goals that are of something, one for each row' {
        ($rows.Name | Select-Object -Unique).Count | Should-Be $rows.Count
        $rows.Place | Where-Object { -not (Test-Path "$bench/Measure-$_.ps1") } | Should-BeCollection @()
        @($rows | Where-Object { $_.ContainsKey('Most') -ne $_.ContainsKey('Of') }) | Should-BeCollection @()
        @($rows | Where-Object { $_['Of'] -eq 'Floor' -and -not $_.ContainsKey('Floor') }) | Should-BeCollection @()
    }

    It 'measures what -Only names, draws it, and says whether the goal is met' {
        $output = & pwsh -NoProfile -NonInteractive -File "$bench/Measure-All.ps1" 'fleet-*' -Out $TestDrive 2>&1 | Out-String
        $LASTEXITCODE | Should-Be 0 -Because $output
        $output | Should-MatchString '(?m)^fleet-200\b.*\b2000 ms\b.*\b(met|OVER)\s*$'
        $said = Get-Content "$TestDrive/bench.json" -Raw | ConvertFrom-Json
        $said.Rows.Name | Should-BeCollection @('fleet-200')
        $said.Load.Host.Count | Should-Be 2
        $row = $said.Rows[0]
        $row.Figure.Count | Should-Be 8
        $row.Figure.Least -le $row.Figure.Median -and $row.Figure.Median -le $row.Figure.Most | Should-BeTrue
        $row.OfGoal | Should-Be ($row.Figure.Median / 2000)
        $row.Met | Should-Be ($row.OfGoal -le 1)
        ([xml] (Get-Content "$TestDrive/bench.svg" -Raw)).DocumentElement.LocalName | Should-Be 'svg'
    }

    It 'refuses a name that no row has' {
        $output = & pwsh -NoProfile -NonInteractive -File "$bench/Measure-All.ps1" none -Out $TestDrive 2>&1 | Out-String
        $LASTEXITCODE | Should-Be 1
        $output | Should-MatchString "No row of the benchmark is named like 'none'"
    }
}
