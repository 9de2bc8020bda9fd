"""How another computer reaps by itself: what its user types, and what systemd or cron reads."""

from __future__ import annotations

EVERY_MINUTES = 10


def instructions(owner: str) -> str:
    """Lines for a shell on a computer that stays on, with gpuplan installed; the last one shows whether it works.

    The owner is no secret; the keys stay in a file that only its user reads, and in no command line.
    """
    return f"""\
# For a computer that stays on, with gpuplan installed: every {EVERY_MINUTES} minutes it ends this owner's machines
# that are past the deadline in their names, whatever has become of the computer that rented them; nothing else.

# 1. The owner, as here, and the keys, for your eyes only:
mkdir -p ~/.config/gpuplan-reap
echo {owner} > ~/.config/gpuplan-reap/owner
(umask 077; printf 'GPUPLAN_HOME=%s\\nRUNPOD_API_KEY=\\nLAMBDA_API_KEY=\\n' ~/.config/gpuplan-reap > \\
    ~/.config/gpuplan-reap/env)
${{EDITOR:-vi}} ~/.config/gpuplan-reap/env    # put the keys in; one that stays empty counts as not set

# 2. Either systemd, which goes on while you are logged out:
mkdir -p ~/.config/systemd/user
cat > ~/.config/systemd/user/gpuplan-reap.service <<END
[Service]
EnvironmentFile=%h/.config/gpuplan-reap/env
ExecStart=$(command -v gpuplan) reap --watch --every {EVERY_MINUTES}m
Restart=always
RestartSec=60
[Install]
WantedBy=default.target
END
systemctl --user enable --now gpuplan-reap.service
loginctl enable-linger

# or cron (crontab -e), which sends by mail what could not be ended, where it sends mail:
# */{EVERY_MINUTES} * * * * set -a; . $HOME/.config/gpuplan-reap/env; gpuplan reap > /dev/null

# 3. What it sees now:
(set -a; . ~/.config/gpuplan-reap/env; gpuplan reap)"""
