// Attaches to a program that checks itself from inside, thousands of times, and is killed doing it. See soak.sh.
using KvmTsc.Torture;

return args switch
{
    ["attach", .. var options] => AttachRun.Run(Options.Parse(options)),
    ["kill", .. var options] => KillRun.Run(Options.Parse(options)),
    ["acts", .. var options] => KillRun.RunActs(Options.Parse(options)),
    ["watch", .. var options] => WatchRun.Run(Options.Parse(options)),
    ["guard", .. var options] => GuardRun.Run(Options.Parse(options)),
    ["control", .. var options] => ControlRun.Run(Options.Parse(options)),
    ["errors", .. var options] => ErrorRun.Run(Options.Parse(options)),

    // What the above run as processes of their own.
    ["attack"] => Attacker.Run(),
    ["work"] => Worker.Run(),
    ["watch-one", var processId] => Watcher.Run(int.Parse(processId)),
    ["guard-one", var states] => Guard.Run(states),
    ["try", var processId] => Attempt.Run(int.Parse(processId)),
    _ => Usage(),
};

static int Usage()
{
    Console.Error.WriteLine(
        """
        usage: KvmTsc.Torture attach [--count N]    attaches N times (2000), reading and writing
               KvmTsc.Torture kill [--count N]      is killed N times (500) while it attaches
               KvmTsc.Torture acts                  is killed after each of the acts of an attach
               KvmTsc.Torture watch [--count N]     waits N times (200) for a resume that does not come, and is killed at many of them
               KvmTsc.Torture guard [--count N]     watches clocks, which are set back meanwhile, and is killed N times (100)
               KvmTsc.Torture control [--count N]   kills a naive injector until it has done harm, at most N times (20)
               KvmTsc.Torture errors                where it cannot attach
        options: --only NAME   only the target, or of the errors the one, that is called so
                 --stand-in    without KVM: targets that have terminals instead of vCPUs (attach, kill, acts)
        """);
    return 2;
}
