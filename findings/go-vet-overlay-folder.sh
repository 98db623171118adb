#!/bin/sh
# go vet cannot look at a package whose folder exists in an overlay alone; go build and
# go list -export can.
#
# Version: go1.26.8, linux/amd64. The help of the go command says of -overlay that it has
# "a JSON config file that provides an overlay for build operations", and of no folder that
# must be there; the package is found, and its dependencies are compiled. Then vet starts
# its tool in the package's folder, which does not exist.
#
# Seen:
#   example.com/overlaid/made: <go>/pkg/tool/linux_amd64/vet: chdir <folder>/made: no such file or directory
# and status 1. go list -export has status 0 with the same overlay.
#
# For us: TestExercisesCompile has programs compiled by go list -export, and not vetted.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
case $(go version) in *" go1.26"*) ;; *) echo "another version: $(go version)"; exit 1 ;; esac
printf 'module example.com/overlaid\n\ngo 1.26\n' >go.mod
printf 'package made\n\n// One is 1.\nconst One = 1\n' >source.txt
printf '{"Replace": {"%s/made/made.go": "%s/source.txt"}}\n' "$folder" "$folder" >overlay.json
export GOWORK=off GOFLAGS=

go build -overlay overlay.json ./made
go list -export -overlay overlay.json ./made | grep -qx example.com/overlaid/made
if said=$(go vet -overlay overlay.json ./made 2>&1); then
  echo "go vet has looked at it: $said"
  exit 1
fi
printf '%s\n' "$said"
printf '%s\n' "$said" | grep -q 'chdir .*/made: no such file or directory'
mkdir made
go vet -overlay overlay.json ./made
echo "as described"
