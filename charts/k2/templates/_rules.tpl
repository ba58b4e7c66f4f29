{{/*
What the operator may do where it watches. docs/operator.md says of each right what it is for, and the tests hold the two together;
tests/cluster/test_rights.py holds both to what the operator asks for, by the API server's audit log.
*/}}
{{- define "k2.rules" -}}
# Its own kinds: read, own finalizer; status apart.
- apiGroups: [k2.dev]
  resources: [marketfeeds, icebergtables]
  verbs: [list, watch, patch]
- apiGroups: [k2.dev]
  resources: [marketfeeds/status, icebergtables/status]
  verbs: [patch]
# What it builds: whose a name is (get), server-side apply (create, patch), removal, and the watch that notices an edit.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Why pods do not come up: those with the labels of a feed, watched and never written.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Events for what changed.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* With platform.autoscaling.kind: keda. */}}
{{- define "k2.kedaRules" -}}
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}

{{/* With platform.kafka.topics: strimzi, beside the Kafka cluster. KafkaTopics are asked for one by one, never watched. */}}
{{- define "k2.topicRules" -}}
- apiGroups: [kafka.strimzi.io]
  resources: [kafkatopics]
  verbs: [get, create, patch, delete]
{{- end }}

{{/* Whether the Secrets that platform.yaml names for producers and sinks are there; only those, by name. */}}
{{- define "k2.secretNames" -}}
{{- $names := list -}}
{{- $kafka := .Values.platform.kafka -}}
{{- $roles := $kafka.secretNames | default dict -}}
{{- range list ($roles.producer | default $kafka.secretName) ($roles.sink | default $kafka.secretName) $kafka.caSecretName .Values.platform.registry.secretName .Values.platform.catalog.secretName -}}
{{- if . }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end }}
