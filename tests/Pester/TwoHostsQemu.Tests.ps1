# The administrator's main job: a QEMU guest moves from one host to another, and its time with it; and what becomes of that if the other host's
# part of it dies. These tests run on the first of two hosts, lab/kvmlab exec --hosts h1,h2; the last one takes the second down.
Describe 'A QEMU guest that moves to another host' -Tag Kvm {
    BeforeAll {
        . "$PSScriptRoot/Common.ps1"
        Clear-VM
        $script:samples = (Resolve-Path "$PSScriptRoot/../../samples").ProviderPath
        $script:modules = "$samples/QemuMigration/Qemu.psm1"
        Import-Module $modules
        $script:build = "$samples/../lab/guest/build"
        $script:image = & $build
        $script:manifest = Get-ManifestPath

        function Open-Session {
            $session = New-PSSession -HostName h2
            Invoke-Command $session { Import-Module $using:manifest }
            $session
        }

        # A QEMU there that awaits a guest.
        function Open-Destination {
            Open-Guest web01-new -Directory "/tmp/TwoHosts-$PID" -Image $image -ClockSource kvm-clock -Incoming defer -Session $control
        }

        # Begins to migrate the clocks of a VM of this process, and returns when the destination is waited for.
        function Open-Migration($Session, $Destination) {
            $job = Start-ThreadJob {
                Import-Module $using:manifest
                Invoke-KvmTscMigration here web01-new -DestinationSession $using:Session -AtResume -Confirm:$false
            }
            Wait-Until 'the destination is watched' {
                if ($job.State -notin 'NotStarted', 'Running') {
                    Receive-Job $job -Wait
                }
                -not (Test-IsAtLarge $Destination)
            }
            $job
        }

        # Whether nobody traces any of its threads, and none stands still.
        function Test-IsAtLarge($Destination) {
            Use-Guest $Destination {
                param($there)
                $status = Get-Content "/proc/$($there.Process.Id)/task/*/status" -ErrorAction Ignore # a thread may have ended meanwhile
                -not ($status -match '^TracerPid:\s+[1-9]') -and -not ($status -match '^State:\s+[Tt]')
            }
        }

        # What ended the migration, and how many seconds after this was called.
        function Receive-Failure($Job) {
            $clock = [Diagnostics.Stopwatch]::StartNew()
            Receive-Job $Job -Wait -AutoRemoveJob -ErrorAction SilentlyContinue -ErrorVariable failures | Should-BeNull
            $failures.Count | Should-Be 1 -Because ($failures -join '; ')
            $failed = $failures[0]
            "$($failed.FullyQualifiedErrorId), after {0:n1} s: $failed" -f $clock.Elapsed.TotalSeconds | Write-Information -InformationAction Continue
            $failed
        }

        # Where kvmclock of the source would be, in ns, if it had been 0 when the host's TSC was.
        function Get-ClockLine {
            $clock = Get-KvmClock here
            $clock.ClockNanoseconds - [decimal] $clock.HostTsc * 1000000 / $kHz
        }

        function Assert-SourceIsAsItWas {
            Get-KernelOffset here | Should-BeCollection @(1000000000000, 1000000000000)
            [math]::Abs((Get-ClockLine) - $clockLine) | Should-BeLessThan 1000
        }

        $script:kHz = (Get-KvmHost).TscKHz
        $script:control = New-PSSession -HostName h2
        Invoke-Command $control {
            Import-Module $using:modules
            $null = & $using:build
        }
        $null = New-KvmVM here -VcpuCount 2
        Set-KvmVcpuTscOffset here 1000000000000
        Set-KvmClock here 86400000000000
        $script:clockLine = Get-ClockLine
    }

    AfterAll {
        Clear-VM
        Get-PSSession | Remove-PSSession
    }

    It 'loses time without KvmTsc, and with it no more than is predicted' {
        $output = & "$samples/Invoke-QemuMigration.ps1" -Scenario Migrate -DestinationHost h2 *>&1 | Out-String -Width 200
        $output | Write-Information -InformationAction Continue
        $output | Should-MatchString 'First sample after resume +wrong by -[\d,]{5,}\.\d{3} ms +right to -?0\.\d{3} ms'
        $output | Should-MatchString 'New warnings of the guest +0 +0'
        $output | Should-MatchString 'With KvmTsc the guest lost no more time than the clocks of both hosts may be apart, and noticed nothing'
    }

    Context 'when what is there dies before it is resumed' {
        BeforeAll {
            $script:destination = Open-Destination
        }

        AfterAll {
            Use-Guest $destination { param($there) Close-Guest $there }
        }

        It 'is left alone, and so is the destination, if that is the session' {
            $job = Open-Migration (Open-Session) $destination
            $id = Use-Guest $destination { param($there) (Select-String '^TracerPid:\s+(\d+)' "/proc/$($there.Process.Id)/status").Matches.Groups[1].Value }
            ssh h2 "kill -9 $id"
            $failed = Receive-Failure $job
            $failed.FullyQualifiedErrorId | Should-BeLikeString 'SessionLost,*'
            "$failed" | Should-BeLikeString '*h2*web01-new*here was not changed*'
            Assert-SourceIsAsItWas
            Wait-Until 'the destination goes on' { Test-IsAtLarge $destination } # a process that is killed closes its sockets before it lets go
            Use-Guest $destination { param($there) (Invoke-Qmp $there query-status).status } | Should-Be 'inmigrate'
        }

        It 'is left alone if that is the destination, which can be waited for again' {
            $job = Open-Migration (Open-Session) $destination
            Use-Guest $destination { param($there) $there.Process.Kill() }
            $failed = Receive-Failure $job
            $failed.FullyQualifiedErrorId | Should-BeLikeString 'ProcessGone,*'
            "$failed" | Should-BeLikeString 'h2: web01-new ended before it was resumed; nothing was restored*'
            $failed.ErrorDetails.RecommendedAction | Should-NotBeEmptyString
            Assert-SourceIsAsItWas
        }
    }

    It 'is left alone if the other host loses power' {
        $session = Open-Session
        $destination = Open-Destination
        $job = Open-Migration $session $destination
        ssh -o ServerAliveInterval=1 -o ServerAliveCountMax=3 h2 'echo b >/proc/sysrq-trigger' 2>&1 | Out-Null
        $failed = Receive-Failure $job # when ssh notices: after ServerAliveInterval times ServerAliveCountMax
        $failed.FullyQualifiedErrorId | Should-BeLikeString 'SessionLost,*'
        "$failed" | Should-BeLikeString '*h2*here was not changed*'
        Assert-SourceIsAsItWas
    }
}
