# shellcheck shell=sh
# What the host is.
printf 'name %s\n' "$(uname -n)"
printf 'cpus %s\n' "$(getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null)"
if [ -r /proc/meminfo ]; then
  sed -n 's/^MemTotal: */memory /p; s/^MemAvailable: */free /p' /proc/meminfo
else
  printf 'bytes %s\n' "$(sysctl -n hw.memsize 2>/dev/null)"
fi
if [ -r /proc/loadavg ]; then sed 's/^/load /' /proc/loadavg; else uptime; fi
:
