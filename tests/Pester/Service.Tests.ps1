BeforeDiscovery {
    $script:analyze = Get-Command systemd-analyze -CommandType Application -ErrorAction Ignore
    $script:systemd = '/lib/systemd/systemd', '/usr/lib/systemd/systemd' | Where-Object { Test-Path $_ } | Select-Object -First 1
}

BeforeAll {
    . "$PSScriptRoot/Common.ps1"
    $script:service = "$((Get-Module KvmTsc).ModuleBase)/service"
    $script:unit = "$service/kvmtsc-watch.service"
}

Describe 'The unit of the service' {
    It 'has no setting that puts it under a seccomp filter' {
        $settings = (Get-Content $unit) -match '^\w+=' -replace '=.*'
        'SystemCallFilter', 'SystemCallArchitectures', 'RestrictAddressFamilies', 'RestrictNamespaces', 'RestrictRealtime', 'RestrictSUIDSGID', 'LockPersonality',
        'ProtectClock', 'ProtectHostname', 'ProtectKernelLogs', 'ProtectKernelModules', 'PrivateDevices', 'MemoryDenyWriteExecute' |
            Where-Object { $_ -in $settings } | Should-BeCollection @()
    }

    if (-not $analyze) {
        It 'is one, and exposed no more than it has to be, by systemd-analyze' {
            Set-ItResult -Skipped -Because 'systemd-analyze is missing. Install it: sudo apt-get install systemd'
        }
        return
    }

    It 'is one by systemd-analyze verify' {
        (systemd-analyze verify --man=no $unit 2>&1) -match 'kvmtsc-watch' | Should-BeCollection @()
    }

    It 'is exposed no more than it has to be, by systemd-analyze security' {
        [double] ((systemd-analyze security --offline=true --no-pager $unit 2>&1) -match 'Overall exposure' -replace '.*: ([\d.]+) .*', '$1')[0] | Should-BeLessThanOrEqual 6.4
    }
}

# By a systemd of its own: a user's, which needs not be the first process. It differs in where state is kept, and in ProtectHome, which takes its runtime directory.
Describe 'The service, by systemd' -Tag Kvm {
    if (-not $systemd) {
        It 'runs' {
            Set-ItResult -Skipped -Because 'systemd is missing. Install it: sudo apt-get install systemd'
        }
        return
    }

    BeforeAll {
        . "$PSScriptRoot/Watching.ps1"
        $directory = (New-Item /run/kvmtsc-test -ItemType Directory -Force).FullName # not below /tmp, of which the service has its own
        $script:log = "$directory/watch.log"
        $script:qemu = Open-Watched qemu01
        $env:XDG_RUNTIME_DIR = "$directory/run"
        $env:XDG_CONFIG_HOME = "$directory/state"
        $units = New-Item "$env:XDG_RUNTIME_DIR/systemd/user/kvmtsc-watch.service.d" -ItemType Directory
        (Get-Content $unit) -replace '/usr/local/share/powershell/Modules/KvmTsc/service', $service | Set-Content "$($units.Parent)/kvmtsc-watch.service"
        Set-Content "$units/test.conf" @(
            '[Service]'
            "StandardOutput=append:$log"
            'ProtectHome=no'
            Get-ChildItem Env:PATH, Env:DOTNET_* | ForEach-Object { "Environment=$($_.Name)=$($_.Value)" } # as this PowerShell is run
        )
        $null = New-Item /run/systemd/system -ItemType Directory -Force # it takes this for booted with systemd
        mount --make-rshared /
        $group = (New-Item "/sys/fs/cgroup/kvmtsc-test" -ItemType Directory -Force).FullName
        Set-Content "$TestDrive/manager.sh" "echo `$`$ >$group/cgroup.procs", "exec $systemd --user --log-target=null"
        $script:manager = Start-Process bash "$TestDrive/manager.sh" -PassThru

        function Invoke-Systemctl([string[]] $Arguments) {
            $output = systemctl --user @Arguments 2>&1
            "$output"
        }

        function Get-Told([string] $Name) {
            @((Get-Content $log -ErrorAction Ignore) -replace '^<\d>' | ConvertFrom-Json | Where-Object Event -EQ $Name)
        }

        Wait-Until 'systemd is there' { (Invoke-Systemctl is-system-running) -in 'running', 'degraded' }
    }

    AfterAll {
        Invoke-Systemctl stop, kvmtsc-watch
        $manager.Kill()
        Close-Guest $qemu
    }

    It 'is ready when it watches, and says how many' {
        Invoke-Systemctl start, kvmtsc-watch | Should-Be ''
        Invoke-Systemctl show, '-p', 'ActiveState', '-p', 'StatusText', 'kvmtsc-watch' | Should-Be 'StatusText=Watching the clocks of 1 VM ActiveState=active'
        (Get-Told Found).VMName | Should-BeCollection @('qemu01')
        $main = Invoke-Systemctl show, '-p', 'MainPID', '--value', 'kvmtsc-watch'
        (Select-String '^Seccomp:\s+(\d)' "/proc/$main/status").Matches[0].Groups[1].Value | Should-Be '0'
    }

    It 'gives a guest its time back, with nobody there' {
        Invoke-Pause $qemu 400
        Wait-Until 'it has' { @(Get-Told Corrected).Count -eq 1 }
        @(Get-Told Corrected)[0].LostNanoseconds | Should-BeGreaterThan 400000000
    }

    It 'comes again when it was killed, and gives back what was lost meanwhile' {
        $main = [int] (Invoke-Systemctl show, '-p', 'MainPID', '--value', 'kvmtsc-watch')
        Stop-Process -Id $main -Force
        Invoke-Pause $qemu 100
        Wait-Until 'it has' { @(Get-Told Corrected).Count -eq 2 }
        Wait-Until 'it is ready' { (Invoke-Systemctl is-active, kvmtsc-watch) -eq 'active' } # which it says when it has looked at all VMs
        [int] (Invoke-Systemctl show, '-p', 'MainPID', '--value', 'kvmtsc-watch') | Should-NotBe $main
    }

    It 'ends well, and leaves nothing' {
        Invoke-Systemctl stop, kvmtsc-watch | Should-Be ''
        Invoke-Systemctl show, '-p', 'ActiveState', '-p', 'Result', '-p', 'ExecMainStatus', 'kvmtsc-watch' | Should-Be 'Result=success ExecMainStatus=0 ActiveState=inactive'
        Get-TraceInstance | Should-BeCollection @()
        (Invoke-Qmp $qemu query-status).status | Should-Be 'running'
    }
}
