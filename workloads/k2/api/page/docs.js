// The API's reference: Swagger UI from this service, or the link that stands there when the wheel was built without it.

const library = document.body.dataset.library;

if (library) {
  const script = document.createElement("script");
  script.src = library;
  script.addEventListener("load", () => {
    window.SwaggerUIBundle({
      url: "openapi.json",
      dom_id: "#reference",
      deepLinking: true,
      // Swagger's own service would be asked whether the document is valid.
      validatorUrl: null,
    });
  });
  document.head.append(script);
}
