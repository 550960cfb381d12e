#!/bin/sh
# docker-registry 2.8 with garbage-collect --delete-untagged removes what is attached to an image, and keeps the list.
#
# A registry without the referrers API is served by the fallback of the OCI distribution specification: what is attached
# to an image (a signature, an SBOM) is a manifest without a tag, and an index under the tag sha256-DIGEST lists it. The
# collector takes the content of an index for blobs, not for manifests that a tag needs: image and index stay, the list
# still says that there is an SBOM, and its manifest and its bytes are gone. Without the option nothing is lost.
#
# Needs: Debian's package docker-registry, curl. The registry listens on the loopback.
set -eu
export LC_ALL=C
command -v docker-registry >/dev/null && command -v curl >/dev/null || { echo "apt-get install docker-registry curl"; exit 2; }
docker-registry --version
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || :; rm -rf "$folder"' EXIT
cd "$folder"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >config.yml <<C
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/store}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
C
base=http://127.0.0.1:$port/v2/app
serve() { docker-registry serve config.yml >>log 2>&1 & server=$!; curl -sf --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:$port/v2/ >/dev/null; }
stop() { kill "$server"; wait "$server" 2>/dev/null || :; server=; }
digest() { echo "sha256:$(sha256sum <"$1" | cut -d' ' -f1)"; }
size() { wc -c <"$1" | tr -d ' '; }
blob() { # blob FILE: upload it
    where=$(curl -sf -D- -o /dev/null -X POST $base/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    curl -sf -o /dev/null -X PUT -H 'Content-Type: application/octet-stream' --data-binary @"$1" "$where&digest=$(digest "$1")"
}
manifest() { # manifest FILE NAME TYPE: upload it
    curl -sf -o /dev/null -X PUT -H "Content-Type: application/vnd.oci.image.$3.v1+json" --data-binary @"$1" "$base/manifests/$2"
}
described() { printf '{"mediaType":"%s","digest":"%s","size":%s%s}' "$1" "$(digest "$2")" "$(size "$2")" "${3-}"; }
status() { curl -s -o /dev/null -w '%{http_code}' -H 'Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' "$base/$1"; }
oci=application/vnd.oci.image
printf '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}' >config
printf '{}' >empty
printf '{"bomFormat":"CycloneDX"}' >sbom
printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[]}' $oci.manifest.v1+json "$(described $oci.config.v1+json config)" >image
printf '{"schemaVersion":2,"mediaType":"%s","artifactType":"application/vnd.cyclonedx+json","config":%s,"layers":[%s],"subject":%s}' \
  $oci.manifest.v1+json "$(described application/vnd.oci.empty.v1+json empty)" \
  "$(described application/vnd.cyclonedx+json sbom)" "$(described $oci.manifest.v1+json image)" >attached
printf '{"schemaVersion":2,"mediaType":"%s","manifests":[%s]}' $oci.index.v1+json \
  "$(described $oci.manifest.v1+json attached ',"artifactType":"application/vnd.cyclonedx+json"')" >index
fallback=$(digest image | tr : -)
serve
for file in config empty sbom; do blob $file; done
manifest image 1.0 manifest
manifest attached "$(digest attached)" manifest
manifest index "$fallback" index
answers() { echo "image $(status manifests/1.0), list $(status "manifests/$fallback"), attached $(status "manifests/$(digest attached)"), its bytes $(status "blobs/$(digest sbom)")"; }
before=$(answers)
stop
docker-registry garbage-collect config.yml >>log 2>&1
serve
plain=$(answers)
stop
docker-registry garbage-collect --delete-untagged config.yml >>log 2>&1
serve
after=$(answers)
echo "before:                $before"
echo "garbage-collect:       $plain"
echo "with --delete-untagged: $after"
[ "$before" = 'image 200, list 200, attached 200, its bytes 200' ] && [ "$plain" = "$before" ]
[ "$after" = 'image 200, list 200, attached 404, its bytes 404' ]
