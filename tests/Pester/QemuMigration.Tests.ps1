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
                $lines | Out-String -Width 200 | Out-Host
                throw # which says what is wrong
            }
            $lines | Out-String -Width 200
        }
    }

    It 'keeps its time with KvmTsc: Migrate, on kvm-clock' {
        Invoke-Sample -Scenario Migrate -ClockSource kvm-clock -Run With | Should-MatchString 'the guest lost no time, and noticed nothing'
    }

    It 'keeps its time where it is watched, with nobody doing anything' {
        $output = Invoke-Sample -Scenario PauseContinue -ClockSource kvm-clock -Run Watched
        $output | Should-MatchString 'Watched, the guest lost no time, and noticed nothing'
        $output | Should-MatchString 'web01 +Corrected +\d+\.\d{9} +\d+\.\d{3} +before it ran'
    }

    # ./build.sh Soak runs these too.
    It 'loses time without KvmTsc, and none with it: Migrate, on kvm-clock' -Tag Long {
        $output = Invoke-Sample -Scenario Migrate -ClockSource kvm-clock
        $output | Should-MatchString 'First sample after resume +wrong by -[\d,]{5,}\.\d{3} ms +right'
        $output | Should-MatchString 'the guest lost no time, and noticed nothing'
    }

    It 'keeps its time with KvmTsc: <Scenario>, on <ClockSource>' -Tag Long -ForEach @(
        @{ Scenario = 'Migrate'; ClockSource = 'tsc' }
        @{ Scenario = 'LiveMigrate'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'LiveMigrate'; ClockSource = 'tsc' }
        @{ Scenario = 'PauseContinue'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'PauseContinue'; ClockSource = 'tsc' }
        @{ Scenario = 'SaveRestore'; ClockSource = 'kvm-clock' }
        @{ Scenario = 'SaveRestore'; ClockSource = 'tsc' }
        @{ Scenario = 'Migrate'; ClockSource = 'hyperv_clocksource_tsc_page' }
        @{ Scenario = 'PauseContinue'; ClockSource = 'hyperv_clocksource_tsc_page' }
    ) {
        Invoke-Sample -Scenario $Scenario -ClockSource $ClockSource -Run With | Should-MatchString 'the guest lost no time, and noticed nothing'
    }

    It 'answers however much its guest has to log, as while its clock stands still: what it logs is dropped, no answer' -Tag Long {
        Import-Module "$PSScriptRoot/../../samples/QemuMigration/Qemu.psm1"
        $guest = Open-Guest web02 -Directory $TestDrive -Image (& "$PSScriptRoot/../../lab/guest/build") -ClockSource kvm-clock
        try {
            Wait-GuestLog $guest '^start '
            $null = Get-GuestReport $guest -Busy
            $clock = (Get-KvmClock web02).ClockNanoseconds
            ($clock + 100000000000ul), $clock | ForEach-Object { $null = Set-KvmClock web02 $_ -Force -Confirm:$false }
            Wait-GuestLog $guest '^apart ' -Count 20 # by then they come faster than they are written
            $null = Receive-GuestLog $guest
            Sync-GuestLog $guest | Should-BeGreaterThan 0
        }
        finally {
            Close-Guest $guest
        }
    }
}
