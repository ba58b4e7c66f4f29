{{/*
Grafana's JSON of a dashboard, of dashboards/<name>.yaml: rows of panels, three a line. No ids and no data source of its own: the
one that whoever looks has chosen.
*/}}
{{- define "k2.dashboard" -}}
{{- $source := dict "type" "prometheus" "uid" "${datasource}" -}}
{{- $panels := list -}}
{{- $y := 0 -}}
{{- range $row := .board.rows -}}
{{- $place := dict "x" 0 "y" $y "w" 24 "h" 1 -}}
{{- $panels = append $panels (dict "type" "row" "title" $row.title "collapsed" false "gridPos" $place "panels" list) -}}
{{- $y = add $y 1 -}}
{{- range $at, $panel := $row.panels -}}
{{- if and $at (not (mod $at 3)) }}{{ $y = add $y 8 }}{{ end -}}
{{- $targets := list -}}
{{- range $n, $series := $panel.series -}}
{{- $id := index (list "A" "B" "C" "D" "E" "F") $n -}}
{{- $targets = append $targets (dict "refId" $id "datasource" $source "expr" $series.expr "legendFormat" $series.name) -}}
{{- end -}}
{{- $overrides := list -}}
{{- with $panel.right -}}
{{- $which := dict "id" "byRegexp" "options" (printf "^%s.*" .series) -}}
{{- $how := list (dict "id" "unit" "value" .unit) (dict "id" "custom.axisPlacement" "value" "right") -}}
{{- $overrides = append $overrides (dict "matcher" $which "properties" $how) -}}
{{- end -}}
{{- $panels = append $panels (dict
  "type" "timeseries"
  "title" $panel.title
  "description" $panel.description
  "datasource" $source
  "gridPos" (dict "x" (mul 8 (mod $at 3)) "y" $y "w" 8 "h" 8)
  "fieldConfig" (dict "defaults" (dict "unit" $panel.unit "min" 0) "overrides" $overrides)
  "options" (dict "legend" (dict "displayMode" "list" "placement" "bottom" "showLegend" true))
  "targets" $targets) -}}
{{- end -}}
{{- $y = add $y 8 -}}
{{- end -}}
{{- $variables := list
  (dict "name" "datasource" "type" "datasource" "query" "prometheus" "label" "Data source")
  (dict "name" "namespace" "type" "query" "label" "Namespace" "datasource" $source
    "query" "label_values(process_start_time_seconds, namespace)" "refresh" 2 "includeAll" true "multi" true "allValue" ".*"
    "current" (dict "text" "All" "value" "$__all")) -}}
{{- dict
  "uid" (printf "k2-%s" .name)
  "title" .board.title
  "description" .board.description
  "tags" (list "k2")
  "schemaVersion" 39
  "version" 1
  "editable" false
  "graphTooltip" 1
  "refresh" "30s"
  "timezone" "utc"
  "time" (dict "from" "now-3h" "to" "now")
  "templating" (dict "list" $variables)
  "panels" $panels | toPrettyJson -}}
{{- end -}}
