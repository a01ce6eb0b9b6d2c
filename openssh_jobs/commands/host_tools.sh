# shellcheck shell=sh
# Prints what the host's userland can do as KEY VALUE, each ended by NUL: see host_tools.py.
# Everything in one command: one round trip, about ten short processes on the host.

printf 'home %s\0' "$HOME"
printf 'cwd %s\0' "$(pwd -P)"
s=$(stat -c %.9Y / 2>/dev/null)
case $s in
  *.?????????) printf 'stat gnu\0' ;;
  *) if stat -c %f / >/dev/null 2>&1; then printf 'stat plain\0'; else printf 'stat bsd\0'; fi ;;
esac
if [ -n "$(find / -maxdepth 0 -printf %b 2>/dev/null)" ]; then printf 'find_printf yes\0'; fi
printf 'tar %s\0' "$(tar --version 2>/dev/null | head -n 1)"
if command -v tar >/dev/null; then printf 'has_tar yes\0'; fi
printf 'rsync %s\0' "$(rsync --version 2>/dev/null | head -n 1)"
for c in sha256sum shasum sha256; do
if command -v $c >/dev/null; then printf 'sha256 %s\0' $c; break; fi
done
if command -v nice >/dev/null; then printf 'nice yes\0'; fi
printf 'system %s\0' "$(uname -s)"
printf 'node %s\0' "$(uname -n)"
printf 'user %s\0' "$(id -un)"
