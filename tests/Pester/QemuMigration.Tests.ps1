# A Linux guest under QEMU, stopped and resumed in every way that QEMU has. Its own clocks are the judge; debugfs tells the offsets.
Describe 'A QEMU guest' -Tag Kvm {
    BeforeAll {
        $sample = (Resolve-Path "$PSScriptRoot/../../samples/Invoke-QemuMigration.ps1").ProviderPath

        function Invoke-Sample {
            $lines = [Collections.Generic.List[object]]::new()
            try {
                & $sample @args *>&1 | ForEach-Object { $lines.Add($_) }
            }
            catch {
                $lines.Add($_)
            }
            $lines | Out-String -Width 200
        }
    }

    # What becomes of it without KvmTsc is for the guest that moves to another host to show.
    It 'keeps its time with KvmTsc: Migrate, on kvm-clock' {
        Invoke-Sample -Scenario Migrate -ClockSource kvm-clock -Run With | Should-MatchString 'the guest lost no time, and noticed nothing'
    }

    # ./build.sh Soak runs these too.
    It 'keeps its time with KvmTsc: <Scenario>, on <ClockSource>' -Tag Long -ForEach @(
        @{ Scenario = 'Migrate'; ClockSource = 'tsc' }
        @{ Scenario = 'LiveMigrate'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'LiveMigrate'; ClockSource = 'tsc' }
        @{ Scenario = 'PauseContinue'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'PauseContinue'; ClockSource = 'tsc' }
        @{ Scenario = 'SaveRestore'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'SaveRestore'; ClockSource = 'tsc' }
    ) {
        Invoke-Sample -Scenario $Scenario -ClockSource $ClockSource -Run With | Should-MatchString 'the guest lost no time, and noticed nothing'
    }
}
