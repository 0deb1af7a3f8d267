package main

import (
	"bytes"
	"fmt"
	"strings"
)

const intro = `<!-- Generated from workflows/plan/types.go by workflows/plan/gendocs (make docs). Do not edit. -->

# Plan reference

A plan is one YAML file that says what is protected, how, and how it is recovered. ` + "`lifeboat plan init`" + ` proposes one,
` + "`lifeboat plan validate -f FILE`" + ` checks it, ` + "`lifeboat plan apply -f FILE`" + ` puts it to work. Editors that know JSON Schema
complete and check it with [plan-schema.json](plan-schema.json).

- **Durations and sizes carry a unit**: ` + "`30s`, `5m`, `24h`, `7d`; `512MiB`, `10GB`" + `. A bare number is an error.
- **Unknown keys are errors**, and so are keys that are there twice, YAML anchors and aliases, and a second document in the file.
- **Names** are lower-case letters, digits and dashes, at most 40 characters: they are part of workflow IDs.
- **No secrets**: a plan is read by everybody who sees the plan. Credentials reach workers by their environment or files.
- **Every fault is reported at once**, in the form ` + "`file:line:column: key: cause; mend`" + `:

` + "```text" + `
shop.yaml:12:7: spec.networks[0].cdir: unknown key; did you mean "cidr"?
shop.yaml:31:13: spec.servers[0].launch.ip: 10.21.0.11 is outside recovery network "shop-recovery" (10.20.0.0/24); use an address from 10.20.0.1 to 10.20.0.254, or leave it out
` + "```" + `

`

const checks = `## What is checked

| about | errors |
|---|---|
| names | two of one kind with the same name; a name that is not in the list it is looked for in |
| sites | a local site without directory, or with what only a cloud has; two sites with one directory; a site of AWS without account, region, zone or bucket, or with one that has not its form; a pair whose primary is its recovery site, or in the same zone |
| transfer | agents where a site of a cloud names none; snapshots or blocks between two providers |
| networks | overlapping CIDRs at one site (the same CIDR at different sites is fine); a network at the wrong site of a pair; a drill in the recovery network |
| addresses | outside the recovery network, its network or broadcast address, given to two servers; one public address for two servers |
| launch | neither type nor cpu and memory, or both; a health path without port; a script that is missing, empty, longer than 64 KiB or holds a secret |
| points | an interval below 1s (1m with snapshots or blocks of AWS); a count below 1 |
| DNS | a name outside its zone; a zone that is served by the primary site of the server |
| steps | a server in two steps; a cycle, which is printed |
| drills | a bad calendar or time zone |

## A complete plan

This is [examples/plans/three-servers.yaml](../examples/plans/three-servers.yaml).

`

// reference writes the page: how a plan is written, every key, checks, an example.
func reference(structs []structDoc, example []byte) []byte {
	known := map[string]bool{}
	for _, s := range structs {
		known[s.name] = true
	}
	var b bytes.Buffer
	b.WriteString(intro + "## Keys\n\nKeys in **bold** are required.\n")
	for _, s := range structs {
		title := s.name
		if title == "Plan" {
			title = "Plan (the file)"
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| key | value | meaning |\n|---|---|---|\n", title, s.doc)
		for _, f := range s.fields {
			key := "`" + f.key + "`"
			if f.required {
				key = "**" + key + "**"
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", key, valueOf(f, known), strings.ReplaceAll(f.doc, "|", `\|`))
		}
	}
	b.WriteString("\n" + checks + "```yaml\n")
	b.Write(example)
	b.WriteString("```\n")
	return b.Bytes()
}

// valueOf says in words what a key takes.
func valueOf(f fieldDoc, known map[string]bool) string {
	kind, isList := strings.CutPrefix(f.goType, "[]")
	var text string
	switch {
	case known[kind]:
		text = fmt.Sprintf("[%s](#%s)", kind, strings.ToLower(kind))
	case f.rules["enum"] != nil:
		text = "`" + strings.Join(f.rules["enum"], "`, `") + "`"
	case f.rules["maxLength"] != nil:
		text = "name"
	case kind == "map":
		text = "keys with texts"
	case kind == "string":
		text = "text"
	case kind == "int":
		text = "number"
		if f.rules["minimum"] != nil {
			text += " from " + f.rules["minimum"][0]
		}
		if f.rules["maximum"] != nil {
			text += " to " + f.rules["maximum"][0]
		}
	case kind == "bool":
		text = "`true`, `false`"
	default:
		text = strings.ToLower(kind)
	}
	if isList {
		text = "list of " + text
	}
	return text
}
