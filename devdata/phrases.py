"""Names and texts of the sample data. All invented; `{order}` becomes an order number."""

# ruff: noqa: RUF001  (other scripts have letters and marks that look like Latin ones)

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language's stock: `asks` and `answers` pair up; `comments` are positive, neutral, negative."""

    names: tuple[str, ...]
    greeting: str
    asks: tuple[str, ...]
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    agent: tuple[str, ...]
    thanks: tuple[str, ...]
    push: str
    comments: tuple[str, str, str]


LANGUAGES: dict[str, Language] = {
    "en": Language(
        names=("Ada Quill", "Tom O'Hara", "Priya Nair", "Sam Whitlock", "Grace Oduya", "Zoë Marsh"),
        greeting="Hello! How can I help? 👋",
        asks=(
            "Where is my order {order}? It should have been here on Monday.",
            "I typed the wrong street for {order}, can you still change it?",
            "I was charged twice 😬",
            "How do I send something back?",
            "=SUM(A1:A9) is all I see on the invoice for {order}",
        ),
        answers=(
            "Order {order} left our warehouse yesterday and arrives tomorrow before noon.",
            "Yes, the parcel has not left yet. What is the right address?",
            "I see one payment and one reservation; the reservation disappears within three days.",
            "Print the label from your account, tape it on, and drop the parcel at any counter.",
            "That should be an amount, not a formula. Here is the invoice again as a PDF.",
        ),
        choices=("Track my order", "Change my address", "Talk to a person", "Returns & refunds"),
        agent=("Hi, Robin here. I have read the chat so far, one moment please.", "I have put that right for you."),
        thanks=("Thanks, that helped a lot!", "ok thx", "Perfect 🎉"),
        push="Your order {order} is out for delivery today.",
        comments=(
            "Quick and friendly, thank you",
            "@support it worked in the end, but only at the second try",
            "-1 from me: I had to explain everything twice",
        ),
    ),
    "fr": Language(
        names=("Élodie Garnier", "Mathis Lefèvre", "Inès Caron", "Loïc Le Goff"),
        greeting="Bonjour ! Que puis-je faire pour vous ?",
        asks=(
            "Où en est ma commande {order} ? Elle devait arriver hier…",
            "Je me suis trompée d'adresse pour {order}, est-ce trop tard ?",
            "On m'a prélevé deux fois, c'est normal ?",
            "Comment faire pour renvoyer un article déjà ouvert ?",
        ),
        answers=(
            "La commande {order} est partie ce matin ; elle arrive demain avant midi.",
            "Non, le colis n'est pas encore parti. Quelle est la bonne adresse ?",
            "L'un des deux montants est une réserve : elle s'efface sous trois jours.",
            "Imprimez l'étiquette depuis votre compte et déposez le colis au guichet.",
        ),
        choices=("Suivre ma commande", "Changer d'adresse", "Parler à quelqu'un"),
        agent=("Bonjour, Camille à l'appareil, je regarde tout de suite.", "Voilà, c'est corrigé."),
        thanks=("Merci beaucoup, bonne journée !", "Super, merci 🙏"),
        push="Votre commande {order} sera livrée aujourd'hui.",
        comments=("Très réactif, bravo", "Correct, sans plus", "Vingt minutes d'attente pour rien"),
    ),
    "de": Language(
        names=("Jürgen Brühl", "Annika Vogt", "Mehmet Kaplan", "Lena Großmann"),
        greeting="Grüezi und hallo! Womit kann ich helfen?",
        asks=(
            "Wo bleibt meine Bestellung {order}? Sie hätte am Montag da sein sollen.",
            "Ich habe bei {order} die falsche Hausnummer angegeben, geht das noch zu ändern?",
            "Mir wurde zweimal abgebucht, bitte prüfen.",
            "Wie schicke ich etwas zurück, das schon geöffnet ist?",
        ),
        answers=(
            "Die Bestellung {order} ist unterwegs und kommt morgen Vormittag an.",
            "Ja, sie ist noch nicht verschickt. Wie lautet die richtige Anschrift?",
            "Eine der beiden Buchungen ist nur vorgemerkt und verfällt in drei Tagen.",
            "Drucken Sie den Aufkleber aus Ihrem Konto aus und geben Sie das Paket am Schalter ab.",
        ),
        choices=("Bestellung verfolgen", "Adresse ändern", "Mit einem Menschen sprechen"),
        agent=("Guten Tag, hier ist Rahel. Ich schaue gleich nach.", "So, das ist erledigt."),
        thanks=("Vielen Dank, das ging ja schnell!", "Alles klar, danke 😊"),
        push="Ihre Bestellung {order} wird heute zugestellt.",
        comments=("Sehr freundlich und rasch", "War in Ordnung", "+1 Stunde gewartet, dann aufgelegt"),
    ),
    "it": Language(
        names=("Chiara Fontana", "Davide Rossetti", "Noemi Bianchi"),
        greeting="Buongiorno! Come posso aiutarla?",
        asks=(
            "Dov'è il mio ordine {order}? Doveva arrivare lunedì.",
            "Posso ancora cambiare l'indirizzo di {order}?",
            "Perché c'è scritto «in attesa» da tre giorni?",
        ),
        answers=(
            "L'ordine {order} è partito e arriva domani mattina.",
            "Sì, non è ancora stato spedito. Qual è l'indirizzo giusto?",
            "Mancava un documento; l'abbiamo ricevuto e da oggi si procede.",
        ),
        choices=("Segui il mio ordine", "Cambia indirizzo", "Parla con una persona"),
        agent=("Salve, sono Marta, controllo subito.", "Fatto, è tutto a posto."),
        thanks=("Grazie mille!", "Perfetto, buona giornata ☀️"),
        push="Il suo ordine {order} arriva oggi.",
        comments=("Gentilissimi", "Va bene così", "Risposte automatiche, poco utili"),
    ),
    "es": Language(
        names=("Íñigo Zabala", "Lucía Peña", "Martín Ibáñez"),
        greeting="¡Hola! ¿En qué puedo ayudarle?",
        asks=(
            "¿Dónde está mi pedido {order}? Tenía que llegar el lunes.",
            "¿Puedo cambiar todavía la dirección de {order}?",
            "Me han cobrado dos veces, ¿lo pueden revisar?",
        ),
        answers=(
            "El pedido {order} salió ayer y llega mañana antes de mediodía.",
            "Sí, aún no ha salido. ¿Cuál es la dirección correcta?",
            "Uno de los dos cargos es una reserva y desaparece en tres días.",
        ),
        choices=("Seguir mi pedido", "Cambiar la dirección", "Hablar con alguien"),
        agent=("Buenas, soy Nerea, lo miro ahora mismo.", "Listo, ya está corregido."),
        thanks=("¡Muchas gracias!", "Genial, gracias 💛"),
        push="Su pedido {order} llega hoy.",
        comments=("Rapidísimo y muy amable", "Normal", "Tuve que repetirlo todo"),
    ),
    "ar": Language(
        names=("ليلى حداد", "كريم منصور", "نور الخطيب", "سامي عازار"),
        greeting="أهلاً وسهلاً! كيف يمكنني مساعدتك؟",
        asks=(
            "أين طلبي رقم {order}؟ كان من المفترض أن يصل يوم الاثنين.",
            "هل يمكنني تغيير عنوان التوصيل للطلب {order}؟",
            "وصل الطعام بارداً، ماذا أفعل؟",
        ),
        answers=(
            "طلبك {order} في الطريق وسيصل خلال عشرين دقيقة.",
            "نعم، لم يخرج السائق بعد. ما هو العنوان الصحيح؟",
            "نعتذر منك! سنعيد إليك ثمن الوجبة كاملاً خلال ثلاثة أيام.",
        ),
        choices=("تتبع طلبي", "تغيير العنوان", "التحدث مع موظف"),
        agent=("مرحباً، معك هالة. لحظة من فضلك.", "تم حل المشكلة."),
        thanks=("شكراً جزيلاً 🌹", "تمام، شكراً"),
        push="طلبك {order} سيصل اليوم.",
        comments=("خدمة سريعة ولطيفة", "لا بأس", "انتظرت طويلاً دون جواب"),
    ),
    "he": Language(
        names=("נועה ברק", "איתי שגב", "תמר אלון"),
        greeting="שלום! איך אפשר לעזור?",
        asks=(
            "איפה ההזמנה שלי {order}? היא הייתה אמורה להגיע אתמול.",
            "אפשר עדיין לשנות את הכתובת של {order}?",
            "חויבתי פעמיים, אפשר לבדוק?",
        ),
        answers=(
            "ההזמנה {order} בדרך ותגיע בעוד כעשרים דקות.",
            "כן, השליח עוד לא יצא. מה הכתובת הנכונה?",
            "אחד החיובים הוא שריון זמני והוא יימחק תוך שלושה ימים.",
        ),
        choices=("מעקב אחר ההזמנה", "שינוי כתובת", "לדבר עם נציג"),
        agent=("היי, כאן מיה, בודקת עכשיו.", "הכול סודר."),
        thanks=("תודה רבה!", "מעולה 👍"),
        push="ההזמנה {order} תגיע היום.",
        comments=("שירות מהיר ונעים", "סביר", "חיכיתי חצי שעה"),
    ),
    "ja": Language(
        names=("佐藤 美咲", "高橋 蓮", "小林 葵"),
        greeting="こんにちは。ご用件をお聞かせください。",
        asks=(
            "注文{order}がまだ届きません。いつ届きますか？",
            "注文{order}の住所を変更できますか？",
            "二重に請求されているようです。確認をお願いします。",
        ),
        answers=(
            "ご注文{order}は配達中です。あと二十分ほどで届きます。",
            "はい、まだ発送前です。正しい住所を教えてください。",
            "一件は仮押さえですので、三日以内に取り消されます。",
        ),
        choices=("注文を追跡する", "住所を変更する", "担当者と話す"),
        agent=("担当の森です。ただいま確認いたします。", "修正いたしました。"),
        thanks=("ありがとうございました！", "助かりました😊"),
        push="ご注文{order}は本日お届けします。",
        comments=("とても丁寧でした", "普通です", "返事が遅すぎます"),
    ),
    "hi": Language(
        names=("अनन्या शर्मा", "रोहन गुप्ता", "मीरा जोशी"),
        greeting="नमस्ते! मैं आपकी क्या मदद कर सकता हूँ?",
        asks=(
            "मेरा ऑर्डर {order} कहाँ है? उसे सोमवार को आना था।",
            "क्या मैं {order} का पता अभी भी बदल सकती हूँ?",
            "मुझसे दो बार पैसे लिए गए हैं।",
        ),
        answers=(
            "आपका ऑर्डर {order} रास्ते में है और बीस मिनट में पहुँच जाएगा।",
            "हाँ, वह अभी निकला नहीं है। सही पता क्या है?",
            "उनमें से एक राशि तीन दिन में अपने आप लौट आएगी।",
        ),
        choices=("ऑर्डर ट्रैक करें", "पता बदलें", "किसी से बात करें"),
        agent=("नमस्ते, मैं किरण हूँ, अभी देखती हूँ।", "हो गया, ठीक कर दिया है।"),
        thanks=("बहुत धन्यवाद 🙏", "ठीक है, शुक्रिया"),
        push="आपका ऑर्डर {order} आज पहुँचेगा।",
        comments=("बहुत अच्छी और तेज़ सेवा", "ठीक-ठाक", "बहुत देर लगी"),
    ),
}
