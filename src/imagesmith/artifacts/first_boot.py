"""Marks an image as not booted yet, so that its machines perform a first boot.

    /etc/machine-id   `uninitialized` where systemd reads it: units with ConditionFirstBoot run, then it gets an id.
                      An empty file would get an id as well, but systemd treats that boot as a later one.

A first boot does two more things, which would change the build, so the image gets settings against them:

    presets           systemd enables every unit that no preset forbids (Debian: all), also what the build disabled;
                      where presets say so it disables what the build enabled. A preset of the image, before all
                      others, names the units whose state differs, with their current state
    questions         systemd-firstboot.service asks at the console for a locale when there is no /etc/locale.conf,
                      and the boot waits; a drop-in keeps its credentials and removes its questions
"""

from __future__ import annotations

from typing import Final

PRESET: Final = "etc/systemd/system-preset/00-image.preset"
QUESTIONS: Final = "etc/systemd/system/systemd-firstboot.service.d/no-questions.conf"

# Runs with the root of the image as `/`. Exits with a non-zero status if a file could not be written.
FIRST_BOOT: Final = rf"""
first_boot() {{
  [ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id || return 1
  if ! command -v systemctl >/dev/null || [ ! -d /etc/systemd/system ]; then : >/etc/machine-id; return; fi
  rm -f /{PRESET} && mkdir -p /{PRESET.rpartition("/")[0]} || return 1
  # from the files and not from the manager, which takes its time for that and may be asked for 25 s only
  units=$(systemctl --root=/ list-unit-files --no-legend --no-pager --plain --state=enabled,disabled) || return 1
  {{ echo "# The units as the image was built: a first boot applies presets."
    echo "$units" | while read -r unit state preset; do
      if [ -n "$unit" ] && [ "$state" != "$preset" ]; then echo "${{state%d}} $unit"; fi
    done
  }} >/{PRESET} || return 1
  wizard=""
  for unit in /usr/lib/systemd/system/systemd-firstboot.service /lib/systemd/system/systemd-firstboot.service; do
    [ -f "$unit" ] && wizard=$unit && break
  done
  if [ -n "$wizard" ]; then
    mkdir -p /{QUESTIONS.rpartition("/")[0]} || return 1
    {{ echo "# Nobody is at the console of a machine that is made from an image."
      echo "[Service]"
      echo "ExecStart="
      sed -n 's/^\(ExecStart=[^ ]*systemd-firstboot\)\( .*\)*$/\1/p' "$wizard"
    }} >/{QUESTIONS} || return 1
  fi
  echo uninitialized >/etc/machine-id && chmod 444 /etc/machine-id
}}
first_boot
"""
