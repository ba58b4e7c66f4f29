{{/* ACLs of a role: topics by prefix, groups of the sinks by prefix. No role may do anything to all topics. */}}
{{- define "kafka.acls" -}}
{{- $topics := dict "type" "topic" "name" .Values.topicPrefix "patternType" "prefix" -}}
{{- $sinks := dict "type" "group" "name" "k2-sink-" "patternType" "prefix" -}}
{{- if eq .role "operator" }}
# topics and their settings; ends and group offsets for lag and freshness
- resource: {{ toJson $topics }}
  operations: [Create, Describe, Alter, Delete, DescribeConfigs, AlterConfigs]
- resource: {{ toJson $sinks }}
  operations: [Describe, Read, Delete]
- resource: {type: cluster}
  operations: [Describe]
{{- else if eq .role "producer" }}
# events and, for what is none, the dead-letter topics (the same prefix); idempotent writes need no right of their own
- resource: {{ toJson $topics }}
  operations: [Describe, DescribeConfigs, Write]
- resource: {type: cluster}
  operations: [Describe]
{{- else if eq .role "sink" }}
- resource: {{ toJson $topics }}
  operations: [Describe, DescribeConfigs, Read, Write]
- resource: {{ toJson $sinks }}
  operations: [Describe, Read]
- resource: {type: cluster}
  operations: [Describe]
{{- else if eq .role "query" }}
# reads by offset, without a group
- resource: {{ toJson $topics }}
  operations: [Describe, Read]
{{- else if eq .role "registry" }}
- resource: {{ dict "type" "topic" "name" .Values.registryTopic "patternType" "prefix" | toJson }}
  operations: [Create, Describe, DescribeConfigs, Read, Write]
- resource: {type: group, name: apicurio-, patternType: prefix}
  operations: [Describe, Read]
{{- else }}{{ fail (printf "users: no such role: %s (operator, producer, sink, query, registry)" .role) }}
{{- end }}
{{- end }}
