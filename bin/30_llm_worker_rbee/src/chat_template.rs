//! Chat messages as the text that a model was trained on, by the template that its file carries.
//! Templates come from strangers: what they may do and how long is bounded.

use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;

/// Steps that a template may take; one takes some tens for each message.
const FUEL: u64 = 1_000_000;
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A template that is ready to be rendered.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Reads the template as `transformers` would. An error says what about it isn't understood.
    pub fn new(source: &str) -> Result<Self, String> {
        // Text that we don't have must not be left out in silence. (The begin token's is: the
        // tokenizer puts that before every prompt.)
        if source.contains("eos_token") {
            return Err("the model's chat template needs eos_token, which isn't known here".into());
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            let mut text = String::new();
            let now = chrono::Local::now();
            match std::fmt::Write::write_fmt(&mut text, format_args!("{}", now.format(&format))) {
                Ok(()) => Ok(text),
                Err(_) => Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "no such date format",
                )),
            }
        });
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| format!("the model's chat template isn't understood: {error:#}"))?;
        Ok(Self { environment })
    }

    /// The conversation as a prompt that asks for the assistant's next turn. An error is the
    /// template's own refusal.
    pub fn render(&self, messages: &[Message]) -> Result<String, String> {
        let template = self.environment.get_template(NAME);
        template
            .and_then(|template| {
                template.render(context! {
                    messages => messages,
                    bos_token => "",
                    add_generation_prompt => true,
                })
            })
            .map_err(|error| match error.detail() {
                Some(detail) => detail.to_owned(),
                None => error.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    #[test]
    fn chatml_is_rendered_as_its_models_were_trained() {
        let source = "{% for message in messages %}\n  \
                      {{ '<|im_start|>' + message['role'] + '\\n' + message['content'].strip() \
                      + '<|im_end|>' + '\\n' }}\n\
                      {%- endfor %}\n\
                      {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
        let template = ChatTemplate::new(source).unwrap();
        let messages = [say("system", "Be brief."), say("user", " Hello {{ 1 }} ")];
        let prompt = template.render(&messages).unwrap().replace("  <", "<");
        assert_eq!(
            prompt,
            "<|im_start|>system\nBe brief.<|im_end|>\n\
             <|im_start|>user\nHello {{ 1 }}<|im_end|>\n\
             <|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_template_can_refuse() {
        let source = "{% if messages[0].role != 'user' %}\
                      {{ raise_exception('the user begins') }}{% endif %}ok";
        let template = ChatTemplate::new(source).unwrap();
        assert_eq!(template.render(&[say("user", "a")]).unwrap(), "ok");
        let refusal = template.render(&[say("assistant", "a")]).unwrap_err();
        assert!(refusal.contains("the user begins"), "{refusal}");
    }

    #[test]
    fn templates_that_are_none_or_never_end_are_errors() {
        assert!(ChatTemplate::new("{% for %}").is_err());
        assert!(ChatTemplate::new("{{ eos_token }}").is_err());
        let endless =
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(ChatTemplate::new(endless).unwrap().render(&[]).is_err());
    }
}
