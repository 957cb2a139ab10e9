// Manifests on stdin, one complaint a line on stdout: what Knative's admission webhooks would answer to a create, with the
// ConfigMaps that Knative comes with.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"
	"sigs.k8s.io/yaml"

	eventing "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	sources "knative.dev/eventing/pkg/apis/sources/v1"
	serving "knative.dev/serving/pkg/apis/serving/v1"
)

type resource interface {
	runtime.Object
	apis.Defaultable
	apis.Validatable
}

var kinds = map[string]func() resource{
	"serving.knative.dev/v1/Service":    func() resource { return &serving.Service{} },
	"eventing.knative.dev/v1/Broker":    func() resource { return &eventing.Broker{} },
	"eventing.knative.dev/v1/Trigger":   func() resource { return &eventing.Trigger{} },
	"sources.knative.dev/v1/PingSource": func() resource { return &sources.PingSource{} },
}

func main() {
	said, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	seen := 0
	for _, document := range bytes.Split(said, []byte("\n---\n")) {
		var head struct {
			APIVersion, Kind string
			Metadata         struct{ Name string }
		}
		if err := yaml.Unmarshal(document, &head); err != nil {
			panic(err)
		}
		make, ours := kinds[head.APIVersion+"/"+head.Kind]
		if !ours {
			continue
		}
		seen++
		one := make()
		if err := yaml.UnmarshalStrict(document, one); err != nil {
			fmt.Printf("%s %s: %v\n", head.Kind, head.Metadata.Name, err)
			continue
		}
		ctx := apis.WithinCreate(feature.ToContext(context.Background(), feature.FromContextOrDefaults(context.Background())))
		one.SetDefaults(ctx)
		if wrong := one.Validate(ctx); wrong != nil {
			fmt.Printf("%s %s: %v\n", head.Kind, head.Metadata.Name, wrong)
		}
	}
	fmt.Fprintf(os.Stderr, "%d looked at\n", seen)
}
