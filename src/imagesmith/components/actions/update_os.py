"""UpdateOS with the package manager that the instance has (spec/components.md 10.25)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Final

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    TypedInputs,
    run_program,
    text_of,
)
from imagesmith.components.actions.execute import REBOOT_STATUS
from imagesmith.components.schema import inputs, texts


def actions() -> tuple[Action, ...]:
    names = {"pattern": r"^[^-\s][^\s]*$", "type": "string", "x-expected": "the name of a package"}
    return (
        Action(
            "UpdateOS",
            "Installs the updates of the distribution.",
            inputs(
                {
                    "include": texts("Only these packages.", items=names),
                    "exclude": texts("Not these packages.", items=names),
                }
            ),
            update_os,
            platforms=frozenset({"linux", "windows"}),
            inputs_required=False,
        ),
    )


def update_os(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    entry = entries[0]
    exclude = list(entry.get("exclude", ()))
    include = [name for name in entry.get("include", ()) if not any(fnmatchcase(name, glob) for glob in exclude)]
    if entry.get("include") and not include:
        context.note("UpdateOS: every included package is excluded too, nothing is left to update")
        return ActionResult()
    may_reboot = "yes" if context.instance.kind == "machine" else ""
    completed = run_program(
        context,
        ("sh", "-c", _UPDATE, "sh", may_reboot, str(len(include)), *include, *exclude),
    )
    stderr = text_of(completed.stderr)
    if completed.returncode == 0:
        return ActionResult(stderr=stderr)
    if completed.returncode == REBOOT_STATUS:
        return ActionResult(reboot="again", stderr=stderr)
    said = (stderr.strip().splitlines() or [""])[-1]
    status = f"exit status {completed.returncode}"
    message = said if said.startswith("error.Input") else f"{status}: {said}" if said else status
    raise ActionFailed(f"UpdateOS failed: {message}", stderr=stderr)


# $1 may restart, $2 number of included names, then these, then the excluded ones. Only machines restart: a
# container has no kernel of its own. Earlier holds of apt or zypper stay; only the holds made here are removed.
_UPDATE: Final = r"""
fail() { printf '%s\n' "error.Input: $*" >&2; exit 1; }
may_reboot=$1 count=$2
shift 2
include= exclude=
for name in "$@"; do
  if [ "$count" -gt 0 ]; then include="$include $name"; count=$((count - 1)); else exclude="$exclude $name"; fi
done
[ "$(id -u)" = 0 ] || fail "UpdateOS needs root"
set -f
if command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  set -- -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold
  apt-get update || exit
  before=$(apt-mark showhold) held=
  trap '[ -z "$held" ] || apt-mark unhold $held >/dev/null' EXIT
  trap 'exit 143' HUP INT TERM
  installed() {
    dpkg-query -W -f '${db:Status-Status} ${binary:Package}\n' "$1" 2>/dev/null | sed -n 's/^installed //p'
  }
  for name in $exclude; do
    for one in $(installed "$name"); do
      one=${one%":$(dpkg --print-architecture)"}
      printf '%s\n' $before $held | grep -qxF -- "$one" && continue
      apt-mark hold "$one" >/dev/null || exit
      held="$held $one"
    done
  done
  if [ "$include" ]; then
    chosen=
    for name in $include; do
      # apt refuses to touch what is held; of a name that the image holds itself it is to say so
      case $name in
        *[*?[]*) found=$(installed "$name") left=$before ;;
        *) found=$name left= ;;
      esac
      for one in $found; do
        printf '%s\n' $left $held | grep -qxF -- "${one%":$(dpkg --print-architecture)"}" || chosen="$chosen $one"
      done
    done
    [ "$chosen" ] || { echo "UpdateOS: nothing that is installed matches"; exit 0; }
    apt-get "$@" install --only-upgrade $chosen || exit
  else
    # a newer kernel is a new package: without them it would be kept back for ever
    apt-get "$@" upgrade --with-new-pkgs || exit
  fi
  [ "$may_reboot" ] && [ -e /var/run/reboot-required ] && exit 194
  exit 0
fi
for tool in dnf yum microdnf; do
  command -v "$tool" >/dev/null 2>&1 || continue
  set --
  for name in $exclude; do set -- "$@" "--exclude=$name"; done
  "$tool" -y update $include "$@" || exit
  if [ "$may_reboot" ] && command -v needs-restarting >/dev/null 2>&1; then
    needs-restarting -r >/dev/null 2>&1
    [ $? = 1 ] && exit 194
  fi
  exit 0
done
if command -v zypper >/dev/null 2>&1; then
  locks=/etc/zypp/locks kept=
  if [ "$exclude" ]; then
    # the locks of the image come back as they were: removelock would take one of the same name with ours
    kept=$(mktemp -d) || exit
    [ ! -e "$locks" ] || cp -p "$locks" "$kept/locks" || exit
    trap 'if [ -e "$kept/locks" ]; then cp -p "$kept/locks" "$locks"; else rm -f "$locks"; fi; rm -rf "$kept"' EXIT
    trap 'exit 143' HUP INT TERM
  fi
  for name in $exclude; do zypper --non-interactive addlock "$name" || exit; done
  zypper --non-interactive refresh && zypper --non-interactive update --auto-agree-with-licenses $include
  status=$?
  case $status in
    0) exit 0 ;;
    102) [ "$may_reboot" ] && exit 194; exit 0 ;;
    103) exit 0 ;;
    *) exit "$status" ;;
  esac
fi
if command -v apk >/dev/null 2>&1; then
  apk update || exit
  if [ -z "$include" ] && [ -z "$exclude" ]; then apk upgrade; exit; fi
  matches() {
    for pattern in $2; do case $1 in $pattern) return 0 ;; esac; done
    return 1
  }
  chosen=
  for name in $(apk info 2>/dev/null); do
    [ -z "$include" ] || matches "$name" "$include" || continue
    matches "$name" "$exclude" || chosen="$chosen $name"
  done
  # not `add`, which writes every name into the list of what the image asks for
  [ -z "$chosen" ] || apk fix --upgrade $chosen
  exit
fi
fail "UpdateOS found none of apt-get, dnf, yum, zypper, apk"
"""
