{{/* What the trial's servers have in common: one replica with a volume, and a Service without an address of its own.
     Arguments: root, component, server (its values), port, id (user and group), data (where the volume lies),
     container (what is particular to it, as YAML), init and volumes (optional, YAML). */}}
{{- define "generator.trialServer" -}}
{{- $labels := dict "root" .root "component" .component }}
{{- $name := printf "%s-%s" (include "generator.fullname" .root) .component }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  labels:
    {{- include "generator.labels" $labels | nindent 4 }}
spec:
  selector:
    {{- include "generator.selector" $labels | nindent 4 }}
  ports:
    - {name: {{ .component }}, port: {{ .port }}, targetPort: {{ .port }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  labels:
    {{- include "generator.labels" $labels | nindent 4 }}
spec:
  serviceName: {{ $name }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "generator.selector" $labels | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "generator.selector" $labels | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with include "generator.imagePullSecrets" .root }}
      {{- . | nindent 6 }}
      {{- end }}
      securityContext:
        {{- toYaml (mergeOverwrite (deepCopy .root.Values.podSecurityContext) (dict "runAsUser" .id "runAsGroup" .id "fsGroup" .id)) | nindent 8 }}
      {{- with .init }}
      initContainers:
        {{- . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "generator.image" (dict "root" .root "image" .server.image) }}
          imagePullPolicy: {{ .server.image.pullPolicy }}
          {{- .container | nindent 10 }}
          resources:
            {{- toYaml .server.resources | nindent 12 }}
          securityContext:
            {{- toYaml (set (deepCopy .root.Values.securityContext) "runAsUser" .id) | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: {{ .data }}}
            - {name: tmp, mountPath: /tmp}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {sizeLimit: 256Mi}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.trial.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .server.size }}}
{{- if .root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $name }}
  labels:
    {{- include "generator.labels" (dict "root" .root "component" "network") | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "generator.selector" $labels | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels: {app.kubernetes.io/name: {{ .root.Chart.Name }}, app.kubernetes.io/instance: {{ .root.Release.Name }}}
            matchExpressions:
              - key: app.kubernetes.io/component
                operator: In
                values: {{ include "generator.needing" (dict "root" .root "need" .need) | fromYamlArray | toJson }}
        {{- if eq .need "redis" }}
        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .root.Values.networkPolicy.kedaNamespace }}}}
        {{- end }}
      ports:
        - {port: {{ .port }}}
{{- end }}
{{- end }}
